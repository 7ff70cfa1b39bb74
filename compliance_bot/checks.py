"""The sandbox must never be reachable from outside."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register

_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}


@register(Tags.security)
def sandbox_stays_on_loopback(**kwargs: Any) -> list[CheckMessage]:
    outside = sorted(set(settings.ALLOWED_HOSTS) - _LOOPBACK)
    if settings.SANDBOX and outside:
        return [
            Error(
                f"ENVIRONMENT=sandbox, but ALLOWED_HOSTS names {', '.join(outside)}",
                hint="The sandbox is for this computer only: unset ENVIRONMENT, or serve only 127.0.0.1.",
                id="compliance_bot.E001",
            )
        ]
    return []
