"""Replies over HTTP, judged: what certainly did not arrive, and what may have."""

import re
from collections.abc import Mapping

from compliance_bot.guardrails.http import OutboundError
from compliance_bot.guardrails.redaction import redact
from workflows.channels import DeliveryError, OutcomeUnknown, Rejected, TryLater

WINDOW = 60.0
"""Seconds to wait where a receiver asks for patience without saying how much."""
_LONGEST_WAIT = 3600.0  # seconds; a longer Retry-After is not believed
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def unanswered(error: OutboundError) -> DeliveryError:
    """No usable reply came."""
    if error.request_written:
        return OutcomeUnknown(error.code, f"{redact(str(error))} The message may have arrived.")
    return TryLater(error.code, redact(str(error)))


def wrong_status(status: int, headers: Mapping[str, str]) -> DeliveryError:
    """A status that is no acknowledgement."""
    code = f"http_{status}"
    if status == 429:
        return TryLater(code, "Too many requests (HTTP 429).", retry_after=seconds(headers.get("Retry-After", "")))
    if 300 <= status < 500:
        return Rejected(code, f"The address answered HTTP {status}: check it.")
    # A gateway may have passed the request on before it failed.
    return OutcomeUnknown(code, f"The answer was HTTP {status}. The message may have arrived.")


def seconds(retry_after: str) -> float:
    """The header as a number of seconds; a date, nonsense or nothing counts as one window."""
    if not re.fullmatch(r"[0-9]{1,9}", retry_after.strip()):
        return WINDOW
    return min(float(retry_after), _LONGEST_WAIT)
