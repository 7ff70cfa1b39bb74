"""Channels that make one POST for each parcel."""

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.utils.translation import gettext as _

from compliance_bot.guardrails.http import Limits, OutboundError, Reply
from compliance_bot.guardrails.redaction import MASK, redact
from workflows.channels import Channel, Means, OutcomeUnknown, Parcel, Receipt, Rejected, Sender
from workflows.channels.common.http import LOOPBACK, unanswered, wrong_status
from workflows.domain import markup
from workflows.domain.content import Content, Part
from workflows.domain.text import clip, split


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One POST."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class NoConfiguration(forms.Form):
    """Everything that leads to the receiver is secret."""


class PostingChannel(Channel):
    """What an adapter of this kind says: the request for a parcel, and what a reply means."""

    limits: ClassVar[Limits] = Limits(connect=5, read=10, total=15, max_bytes=64 * 1024)

    @contextmanager
    def connect(self, means: Means) -> Iterator[Sender]:
        for name in self.secret_fields:
            secret(means, name)
        yield lambda parcel: self._post(parcel, means)

    def _post(self, parcel: Parcel, means: Means) -> Receipt:
        request = self.request(parcel, means)
        try:
            headers = {"Content-Type": "application/json; charset=utf-8", **request.headers}
            reply = means.http.post(request.url, request.body, headers=headers, limits=self.limits)
        except OutboundError as error:
            failure = unanswered(error)
        else:
            return self.receipt(reply, tuple(means.secrets.values()))
        raise failure  # out here: a chained exception could quote the URL, and with it a secret

    @abstractmethod
    def request(self, parcel: Parcel, means: Means) -> Request:
        """What is posted. Raises Rejected where a secret is none."""

    @abstractmethod
    def receipt(self, reply: Reply, secrets: Sequence[str]) -> Receipt:
        """What the reply acknowledges. Raises DeliveryError where it acknowledges nothing."""


def secret(means: Means, name: str) -> str:
    """A stored secret. Raises Rejected where it is missing."""
    value = means.secrets.get(name, "").strip()
    if not value:
        raise Rejected("no_secret", f"The channel's secret '{name}' is not stored: store it.", channel_broken=True)
    return value


def secret_url(means: Means) -> str:
    """The secret address. Raises Rejected where it is none that may be used."""
    url = secret(means, "url")
    try:
        require_address(url)
    except ValidationError:
        sentence = "What is stored as the channel's address is none: store the whole address, from https:// on."
        raise Rejected("bad_url", sentence, channel_broken=True) from None
    return url


def require_address(url: str) -> None:
    """Raises ValidationError unless it is https, or http inside this machine."""
    URLValidator(schemes=["https", "http"])(url)
    parts = urlsplit(url)
    if "@" in parts.netloc or (parts.scheme != "https" and parts.hostname not in LOOPBACK):
        raise ValidationError(_("The address must begin with https:// and name no user."))


def answered(reply: Reply, status: int) -> Mapping[str, Any]:
    """The JSON object of a reply with this status. Raises DeliveryError."""
    require_status(reply, status)
    try:
        said = reply.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise unlike()
    return said


def code_of(said: Mapping[str, Any], field: str) -> int:
    """The receiver's own code. A bool is an int to Python, and no code. Raises OutcomeUnknown."""
    code = said.get(field)
    if type(code) is not int:
        raise unlike()
    return code


def require_status(reply: Reply, status: int) -> None:
    """Raises DeliveryError for another one; a wrong or withdrawn credential breaks the channel."""
    if reply.status == status:
        return
    if reply.status in {401, 403, 410}:
        sentence = f"The receiver does not let us in (HTTP {reply.status})."
        raise Rejected(f"http_{reply.status}", sentence, channel_broken=True)
    raise wrong_status(reply.status, reply.headers) if reply.status >= 300 else unlike()


def unlike() -> OutcomeUnknown:
    """What came is no answer of the receiver's."""
    return OutcomeUnknown("bad_reply", "The reply is not one of the receiver's. The message may have arrived.")


def shown(text: str, secrets: Sequence[str]) -> str:
    """What a receiver said, fit to be shown."""
    for value in filter(None, secrets):
        text = text.replace(value, MASK)
    return clip(" ".join(redact(text).split()), 200)


def texts(content: Content, convert: Callable[[str], str], *, limit: int) -> list[str]:
    """The blocks, or the title where there are none, in texts of at most ``limit`` bytes."""
    said = [convert(block) for block in content.blocks if block.strip()] or [convert(content.title)]
    return split("", said, limit=limit)


def plain_title(content: Content) -> str:
    return clip(" ".join(markup.to_plain(content.title).split()), 200)


def as_json(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, ensure_ascii=False, indent=2)


def json_parts(payloads: Sequence[Mapping[str, Any]]) -> tuple[Part, ...]:
    """Payloads that are sent as they stand."""
    return tuple(
        Part(number=number, of=len(payloads), text=as_json(payload), form="json")
        for number, payload in enumerate(payloads, 1)
    )
