"""The guarded session as this installation allows it."""

from django.conf import settings

from compliance_bot.guardrails.http import GuardedSession


def session() -> GuardedSession:
    """A new session for one thread; close it after use."""
    return GuardedSession(allow=settings.EGRESS_ALLOW)
