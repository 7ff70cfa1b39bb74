"""What has to be so about an installation: the sandbox is never reachable from outside, and mail leads somewhere."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

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


@register(Tags.security, deploy=True)
def mail_can_link(**kwargs: Any) -> list[CheckMessage]:
    if settings.HAS_MAIL_SERVER and not settings.BASE_URL:
        return [
            Warning(
                "EMAIL_URL is set, but BASE_URL is not: mail to officers names a request without a link to it",
                hint="Set BASE_URL to the address that people open, such as https://compliance.example.",
                id="compliance_bot.W001",
            )
        ]
    return []
