"""A robot of a WeCom group. Its key is a bearer secret in the URL: whoever has it can write to the group."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.utils.translation import gettext_lazy as _

from compliance_bot.guardrails.http import Limits, OutboundError, Reply
from compliance_bot.guardrails.redaction import MASK, redact
from workflows.channels import (
    Channel,
    DeliveryError,
    Means,
    OutcomeUnknown,
    Receipt,
    Rejected,
    Sender,
    TryLater,
    register,
)
from workflows.domain.content import Content, Part
from workflows.domain.text import clip, split
from workflows.domain.wecom_errcodes import ErrorClass, lookup

MARKDOWN_LIMIT = 4096  # bytes of UTF-8; WeCom refuses more with 40058
_WINDOW = 60.0  # seconds that a limit of WeCom's lasts
_LONGEST_WAIT = 3600.0  # seconds; a longer Retry-After is not believed
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}

# What WeCom appends to errmsg: a trace of the request, the caller's address, a link to its tool.
_TRACE = re.compile(r"[,.;\s]*\b(?:hint|from ip|more info)\b.*", re.IGNORECASE | re.DOTALL)
_ADDRESS = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])|(?<![\w:])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f.]*", re.I)


class RobotForm(forms.Form):
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
        # The key travels in the URL. Without TLS that is acceptable inside this machine only (the sandbox).
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise ValidationError(_("The address must begin with https://."))
        return url.rstrip("/")


@register
class WeComRobot(Channel):
    kind = "wecom_robot"
    label = _("WeCom group robot")
    config_form = RobotForm
    secret_fields = ("key",)
    speaks_to_a_group = True
    per_minute = 20
    limits: ClassVar[Limits] = Limits(connect=5, read=10, total=15, max_bytes=64 * 1024)

    def render(self, content: Content) -> tuple[Part, ...]:
        title = " ".join(content.title.split())
        texts = split(f"**{title}**" if title else "", content.blocks, limit=MARKDOWN_LIMIT)
        return tuple(Part(number=number, of=len(texts), text=text) for number, text in enumerate(texts, 1))

    @contextmanager
    def connect(self, means: Means) -> Iterator[Sender]:
        yield lambda parcel: self._send(parcel.part, means)

    def _send(self, part: Part, means: Means) -> Receipt:
        key = _key(means.secrets)
        url = f"{means.config['base_url']}/cgi-bin/webhook/send?key={key}"
        payload = {"msgtype": "markdown", "markdown": {"content": part.text}}
        try:
            reply = means.http.post_json(url, payload, limits=self.limits)
        except OutboundError as error:
            failure = _unanswered(error)
        else:
            errcode, errmsg = _answer(reply)
            if errcode == 0:
                return Receipt(reply=_clean(f"errcode 0 {errmsg}", key))
            failure = _refusal(errcode, _clean(errmsg, key))
        raise failure  # out here: a chained exception could quote the URL, and with it the key


def _key(secrets: Mapping[str, str]) -> str:
    key = secrets.get("key", "").strip()
    if not key:
        raise Rejected("no_key", "The robot's key is not stored: store it.", channel_broken=True)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", key):
        raise Rejected(
            "bad_key",
            "What is stored as the robot's key is not one: store only what follows 'key=' in its address.",
            channel_broken=True,
        )
    return key


def _unanswered(error: OutboundError) -> DeliveryError:
    if error.request_written:
        return OutcomeUnknown(error.code, f"{redact(str(error))} The message may have arrived.")
    return TryLater(error.code, redact(str(error)))


def _answer(reply: Reply) -> tuple[int, str]:
    """WeCom's errcode and errmsg. Raises DeliveryError for anything that is no answer of WeCom's."""
    if reply.status != 200:
        raise _wrong_status(reply)
    try:
        said = reply.json()
    except ValueError:
        said = None
    if not isinstance(said, dict) or not _is_errcode(said.get("errcode")):
        raise OutcomeUnknown("bad_reply", "The reply is not one of WeCom's. The message may have arrived.")
    return said["errcode"], str(said.get("errmsg", ""))


def _is_errcode(value: object) -> bool:
    """A 32-bit number. A bool is an int to Python: {"errcode": false} is no acknowledgement."""
    return type(value) is int and -(2**31) <= value < 2**31


def _wrong_status(reply: Reply) -> DeliveryError:
    """WeCom answers 200 whatever happens, so another status comes from something in between."""
    code = f"http_{reply.status}"
    if reply.status == 429:
        wait = _seconds(reply.headers.get("Retry-After", ""))
        return TryLater(code, "Too many requests (HTTP 429).", retry_after=wait)
    if 300 <= reply.status < 500:
        return Rejected(code, f"The address answered HTTP {reply.status} and not as WeCom does: check it.")
    # A gateway may have passed the request on before it failed.
    return OutcomeUnknown(code, f"The answer was HTTP {reply.status}. The message may have arrived.")


def _seconds(retry_after: str) -> float:
    """The header as a number of seconds; a date, nonsense or nothing counts as one window."""
    if not re.fullmatch(r"[0-9]{1,9}", retry_after.strip()):
        return _WINDOW
    return min(float(retry_after), _LONGEST_WAIT)


def _refusal(errcode: int, errmsg: str) -> DeliveryError:
    known = lookup(errcode)
    code, message = str(errcode), known.sentence
    if errmsg:
        message += f" WeCom's words: {errmsg}"
    match known.error_class:
        case ErrorClass.LIMIT:
            return TryLater(code, message, retry_after=_WINDOW)
        case ErrorClass.TRANSIENT:
            return TryLater(code, message)
        case ErrorClass.PERMANENT:
            return Rejected(code, message)
        case _:  # a robot has no token to renew: AUTH and TOKEN mean that it is set up wrongly
            return Rejected(code, message, channel_broken=True)


def _clean(text: str, key: str) -> str:
    """What WeCom said, fit to be shown: one short line without the key, the trace and addresses."""
    text = re.sub(re.escape(key), MASK, text, flags=re.IGNORECASE)
    text = _ADDRESS.sub(MASK, _TRACE.sub("", redact(text)))
    return clip(" ".join(text.split()), 200)
