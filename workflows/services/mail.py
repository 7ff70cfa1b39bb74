"""Mail to single persons: each gets one of their own, so that nobody learns who else was written to."""

import contextlib
import logging
from collections.abc import Mapping

from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend

from compliance_bot.guardrails.redaction import redact

logger = logging.getLogger(__name__)


def send(letters: Mapping[str, EmailMessage]) -> dict[str, str]:
    """Send each letter, by the name of whom it is for. Returns what went wrong, by name; never raises for a server.

    All go over one connection: a server that does not answer is waited for once. One that hangs up in the middle is
    not asked again, and the rest of the letters fail at once.
    """
    connection = get_connection()
    try:
        connection.open()
        outcomes = {name: _send(letter, connection) for name, letter in letters.items()}
    except OSError as error:  # smtplib's errors are OSErrors; those of one letter were seen to
        outcomes = dict.fromkeys(letters, redact(str(error)))
    finally:
        with contextlib.suppress(OSError):
            connection.close()
    failures = {name: why for name, why in outcomes.items() if why}
    for name in failures:
        logger.error("a mail did not reach %s; the trail has the reason", name)
    return failures


def _send(letter: EmailMessage, connection: BaseEmailBackend) -> str:
    """What went wrong; empty when nothing did."""
    try:
        connection.send_messages([letter])
    except (OSError, ValueError) as error:  # a ValueError is an address or a header that cannot be sent
        return redact(str(error)) or type(error).__name__
    return ""
