"""How messages leave. Every other file in this package is one adapter; what several share stands in ``common``.

Success is a returned ``Receipt``; failure is one of three exceptions, because three different things happen
next: ``Rejected`` is never repeated, ``TryLater`` is repeated, ``OutcomeUnknown`` waits for a person.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Protocol

from django import forms
from django.utils.translation import gettext as _

from compliance_bot.guardrails.http import GuardedSession
from workflows.domain.content import Content, Part
from workflows.registry import Registry, discover


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One call: a part for one address, or for as many as the channel takes at once.

    ``key`` is the same whenever the same parcel is sent again, for receivers that recognise repetitions. The one
    address is "" where the channel itself is the recipient.
    """

    part: Part
    addresses: tuple[str, ...]
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The receiving system's own acknowledgement. ``reference`` is its id for the message, if it gives one.

    ``refused``: addresses of the parcel that the receiver did not take, though it took the parcel.
    """

    reference: str = ""
    reply: str = ""
    refused: Mapping[str, "Rejected"] = field(default_factory=dict)


class DeliveryError(Exception):
    """Base of the three. ``code`` is short and stable (an errcode, ``timeout``); the message is a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Rejected(DeliveryError):
    """The receiving system refused, and would refuse again.

    ``channel_broken``: the refusal is about the channel (key, robot, permission), not about this message.
    """

    def __init__(self, code: str, message: str, *, channel_broken: bool = False) -> None:
        super().__init__(code, message)
        self.channel_broken = channel_broken


class TryLater(DeliveryError):
    """Certainly not delivered; worth another try. ``retry_after``: seconds asked for, if any."""

    def __init__(self, code: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(code, message)
        self.retry_after = retry_after


class OutcomeUnknown(DeliveryError):
    """The request was written and no trustworthy answer came: it may have arrived."""


class Tokens(Protocol):
    """An access token that all processes share."""

    def get(self, fetch: Callable[[], "Token"]) -> str:
        """The token in force; ``fetch`` is called by one process alone, when there is none."""

    def renew(self, spent: str, fetch: Callable[[], "Token"]) -> str:
        """The token that came after ``spent``, which the receiver does not take any more."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a receiver gave out, and for how many seconds."""

    value: str
    lasts: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What an adapter sends with."""

    config: Mapping[str, Any]
    secrets: Mapping[str, str]
    http: GuardedSession
    tokens: Tokens
    read_attachment: Callable[[str], bytes]
    """The bytes behind an attachment's SHA-256. Only for adapters with one parcel on its way at a time."""


Sender = Callable[[Parcel], Receipt]
"""Transmits one parcel, once. Raises DeliveryError."""


class Channel(ABC):
    """The contract of a channel adapter."""

    kind: ClassVar[str]
    label: ClassVar[Any]
    config_form: ClassVar[type[forms.Form]]
    """Declares and validates the configuration; the admin form derives from it."""
    secret_fields: ClassVar[tuple[str, ...]] = ()
    """Names of the secrets that ``connect`` is given; the configuration never holds them."""
    speaks_to_a_group: ClassVar[bool] = False
    """The channel itself is the recipient: whatever address is named, everybody in its group reads it."""
    per_minute: ClassVar[int]
    """The receiving system's own limit for one channel, or what is decent."""
    per_recipient: ClassVar[Mapping[timedelta, int]] = {}
    """The receiving system's limits for one address: so many in any such time."""
    at_once: ClassVar[int] = 1
    """Addresses in one parcel. More than one: parcels leave one after the other, each repeated as it was."""
    side_by_side: ClassVar[int] = 1
    """Parcels on their way at one time. More than one: each connection lives in a thread of its own, without tokens."""

    recallable_for: ClassVar[timedelta] = timedelta(0)
    """How long after it was sent a message can be taken back."""

    def repeatable_for(self, config: Mapping[str, Any], form: str) -> timedelta:
        """How long the receiver recognises a repeated parcel of a part of this form; zero where it never does."""
        return timedelta(0)

    def clean_address(self, address: str) -> str:
        """The address in its one form. Raises ValueError with a sentence where nothing could be sent to it."""
        if address:
            raise ValueError(_("This channel is its own recipient: leave the address empty."))
        return address

    def is_group(self, address: str) -> bool:
        """Whether more than one person is behind the address."""
        return self.speaks_to_a_group

    def bundle(self, addresses: Sequence[str]) -> int:
        """How many of these addresses, from the first on, go into one parcel; at least one."""
        return min(len(addresses), self.at_once)

    def recall(self, reference: str, means: Means) -> None:
        """Take a message back by its receipt's reference. Raises DeliveryError; only where it is recallable."""
        raise NotImplementedError

    @abstractmethod
    def render(self, content: Content, config: Mapping[str, Any]) -> tuple[Part, ...]:
        """Shape content into transmissions within this channel's limits; pure.

        Raises Invalid, naming the field, where the content has no shape here.
        """

    @abstractmethod
    def connect(self, means: Means) -> AbstractContextManager[Sender]:
        """Open what several parcels in turn are sent over. Raises DeliveryError where nothing can be opened."""


registry: Registry[Channel] = Registry("channel")
register = registry.register
discover(sys.modules[__name__])
