"""WeCom's HTTP API: its address, its answers, its refusals in our words."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.utils.translation import gettext_lazy as _

from compliance_bot.guardrails.http import Limits, Reply
from compliance_bot.guardrails.redaction import MASK, redact
from workflows.channels import DeliveryError, OutcomeUnknown, Rejected, TryLater
from workflows.channels.common.http import LOOPBACK, WINDOW, wrong_status
from workflows.domain.text import clip
from workflows.domain.wecom_errcodes import ErrorClass, lookup

LIMITS = Limits(connect=5, read=10, total=15, max_bytes=256 * 1024)
UPLOAD = Limits(connect=5, read=20, total=25, max_bytes=64 * 1024)

# What WeCom appends to errmsg: a trace of the request, the caller's address, a link to its tool.
_TRACE = re.compile(r"[,.;\s]*\b(?:hint|from ip|more info)\b.*", re.IGNORECASE | re.DOTALL)
_ADDRESS = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])|(?<![\w:])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f.]*", re.I)


class ApiForm(forms.Form):
    """Where the API is."""

    base_url = forms.URLField(
        label=_("Address of the WeCom API"),
        initial="https://qyapi.weixin.qq.com",
        assume_scheme="https",
        validators=[URLValidator(schemes=["https", "http"])],
    )

    def clean_base_url(self) -> str:
        url = str(self.cleaned_data["base_url"])
        parts = urlsplit(url)
        if parts.path not in ("", "/") or "?" in url or "#" in url or "@" in parts.netloc:
            raise ValidationError(_("Only the scheme and the host: no path, query, fragment or user name."))
        # Secrets travel in the URL. Without TLS that is acceptable inside this machine only (the sandbox).
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise ValidationError(_("The address must begin with https://."))
        return url.rstrip("/")


def answer(reply: Reply) -> Mapping[str, Any]:
    """WeCom's answer, with an ``errcode`` in it. Raises DeliveryError for anything that is no answer of WeCom's."""
    if reply.status != 200:
        # WeCom answers 200 whatever happens, so another status comes from something in between.
        raise wrong_status(reply.status, reply.headers)
    try:
        said = reply.json()
    except ValueError:
        said = None
    if not isinstance(said, dict) or not _is_errcode(said.get("errcode")):
        raise OutcomeUnknown("bad_reply", "The reply is not one of WeCom's. The message may have arrived.")
    return said


def _is_errcode(value: object) -> bool:
    """A 32-bit number. A bool is an int to Python: {"errcode": false} is no acknowledgement."""
    return type(value) is int and -(2**31) <= value < 2**31


def refusal(errcode: int, errmsg: str) -> DeliveryError:
    """What a non-zero errcode means for the message. ``errmsg`` is fit to be shown (see ``clean``)."""
    known = lookup(errcode)
    code, message = str(errcode), known.sentence
    if errmsg:
        message += f" WeCom's words: {errmsg}"
    match known.error_class:
        case ErrorClass.LIMIT:
            return TryLater(code, message, retry_after=WINDOW)
        case ErrorClass.TRANSIENT:
            return TryLater(code, message)
        case ErrorClass.PERMANENT:
            return Rejected(code, message)
        case _:  # a token that a new one did not cure is set up wrongly, like all other credentials
            return Rejected(code, message, channel_broken=True)


def clean(text: str, *secrets: str) -> str:
    """What WeCom said, fit to be shown: one short line without our secrets, the trace and addresses."""
    for secret in filter(None, secrets):
        text = re.sub(re.escape(secret), MASK, text, flags=re.IGNORECASE)
    text = _ADDRESS.sub(MASK, _TRACE.sub("", redact(text)))
    return clip(" ".join(text.split()), 200)
