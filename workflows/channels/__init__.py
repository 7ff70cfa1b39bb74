"""How messages leave. Every other file in this package is one adapter.

Success is a returned ``Receipt``; failure is one of three exceptions, because three different things happen
next: ``Rejected`` is never repeated, ``TryLater`` is repeated, ``OutcomeUnknown`` waits for a person.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms

from compliance_bot.guardrails.http import GuardedSession
from workflows.domain.content import Content, Part
from workflows.registry import Registry, discover


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The receiving system's own acknowledgement. ``reference`` is its id for the message, if it gives one."""

    reference: str = ""
    reply: str = ""


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


class Channel(ABC):
    """The contract of a channel adapter."""

    kind: ClassVar[str]
    label: ClassVar[Any]
    config_form: ClassVar[type[forms.Form]]
    """Declares and validates the configuration; the admin form derives from it."""
    secret_fields: ClassVar[tuple[str, ...]] = ()
    """Names of the secrets that ``deliver`` is given; the configuration never holds them."""
    speaks_to_a_group: ClassVar[bool] = False
    """The channel itself is the recipient: whatever address is named, everybody in its group reads it."""
    per_minute: ClassVar[int]
    """The receiving system's own limit for one channel."""

    @abstractmethod
    def render(self, content: Content) -> tuple[Part, ...]:
        """Shape content into transmissions within this channel's limits; pure."""

    @abstractmethod
    def deliver(
        self,
        part: Part,
        *,
        address: str,
        config: Mapping[str, Any],
        secrets: Mapping[str, str],
        http: GuardedSession,
    ) -> Receipt:
        """Transmit one part, once. ``address`` is the recipient's, "" where the channel is the recipient."""


registry: Registry[Channel] = Registry("channel")
register = registry.register
discover(sys.modules[__name__])
