"""Sentences for the people who answer for the trail: by mail, and by whatever other rooms register.

A notice that did not arrive is an answer, not an exception: the alarm must not be what breaks the work.
"""

import logging
from collections.abc import Callable

from django.conf import settings
from django.core.mail import EmailMessage
from django.utils.translation import gettext as _

from compliance_bot.guardrails.redaction import redact

logger = logging.getLogger(__name__)

Sender = Callable[[str, str], None]

_senders: dict[str, Sender] = {}


class NotTold(Exception):
    """The notice did not arrive, or nobody knows whether it did; the message is a sentence."""


def register(name: str, sender: Sender) -> None:
    """Let ``sender(subject, text)`` tell notices too. It raises NotTold where it cannot."""
    _senders[name] = sender


def receivers() -> list[str]:
    """Who would be told now: mail addresses, and what was registered."""
    return [*settings.AUDIT_MAIL, *_senders]


def tell(subject: str, text: str) -> list[str]:
    """Tell everybody. Returns what went wrong, one sentence a receiver; never raises for a broken one."""
    subject = " ".join(subject.split())
    senders = {address: _mailer(address) for address in settings.AUDIT_MAIL} | _senders
    outcomes = [_tell(name, sender, subject, text) for name, sender in senders.items()]
    return [failure for failure in outcomes if failure]


def _tell(name: str, sender: Sender, subject: str, text: str) -> str:
    """What went wrong; empty when nothing did."""
    try:
        sender(subject, text)
    except NotTold as error:
        why = redact(str(error))
        logger.error("a notice did not reach %s: %s (%s)", name, why, subject)
    except Exception:
        logger.exception("a notice did not reach %s (%s)", name, subject)
        why = _("an unexpected error; the log has it")
    else:
        return ""
    return f"{name}: {why}"


def _mailer(address: str) -> Sender:
    """One mail an address: of several in one mail, those that the server refuses are lost in silence."""

    def send(subject: str, text: str) -> None:
        try:
            EmailMessage(subject, text, to=[address]).send()
        except (OSError, ValueError) as error:  # smtplib's errors are OSErrors
            raise NotTold(str(error)) from error

    return send
