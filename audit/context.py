"""Who acts, and because of what. Set at each entrance, read by the recorder."""

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Self

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser


def uuid7() -> uuid.UUID:
    """A time-ordered UUID (RFC 9562, version 7): 48 bits of milliseconds, 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76  # version
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    return uuid.UUID(int=value)


@dataclass(frozen=True, slots=True)
class Actor:
    """A person or the system; the label is copied, so that it survives the account."""

    kind: str  # "user", "system" or "anonymous"
    id: str
    label: str

    @classmethod
    def of(cls, user: AbstractBaseUser | AnonymousUser) -> Self:
        if isinstance(user, AnonymousUser):
            return cls("anonymous", "", "")
        return cls("user", str(user.pk), user.get_username())


SYSTEM = Actor("system", "", "system")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something happens: the actor, the request it came with, and the event that led to it.

    ``request_id`` is always made here, never taken from a client. ``actor_of`` is asked when an event is
    recorded, because a request's user is known only after sign-in.
    """

    actor_of: Callable[[], Actor]
    request_id: uuid.UUID = field(default_factory=uuid7)
    on_behalf_of: str = ""
    ip: str | None = None
    parent_event_id: uuid.UUID | None = None

    def as_task_argument(self) -> dict[str, str]:
        """What a queued task needs to go on under the same cause: the system acts, for the same person."""
        return {"request_id": str(self.request_id), "on_behalf_of": self.on_behalf_of or self._person()}

    def _person(self) -> str:
        actor = self.actor_of()
        return actor.label if actor.kind == "user" else ""


_current: ContextVar[Cause | None] = ContextVar("audit_cause", default=None)


def current() -> Cause:
    """The cause in force; outside every entrance (a shell, say) the system itself with a fresh id."""
    cause = _current.get()
    if cause is None:
        cause = Cause(lambda: SYSTEM)
        _current.set(cause)
    return cause


@contextmanager
def caused_by(cause: Cause) -> Iterator[Cause]:
    token = _current.set(cause)
    try:
        yield cause
    finally:
        _current.reset(token)


@contextmanager
def acting(user: AbstractBaseUser, **changes: Any) -> Iterator[Cause]:
    """This person acts, under the request id in force."""
    actor = Actor.of(user)
    with caused_by(replace(current(), actor_of=lambda: actor, **changes)) as cause:
        yield cause


@contextmanager
def system_acting(
    *, request_id: uuid.UUID | None = None, on_behalf_of: str = "", parent_event_id: uuid.UUID | None = None
) -> Iterator[Cause]:
    """The system acts: a clock, a queued task."""
    cause = Cause(
        lambda: SYSTEM,
        request_id=request_id or uuid7(),
        on_behalf_of=on_behalf_of,
        parent_event_id=parent_event_id,
    )
    with caused_by(cause):
        yield cause
