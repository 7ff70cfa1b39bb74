"""When to try again, and when no more."""

from collections.abc import Mapping
from datetime import timedelta

from workflows.domain.states import Priority

MAX_ATTEMPTS = 5
_BASE_SECONDS = 2.0
_LEAST_SECONDS = 1.0  # whoever was busy a moment ago is so still
_CAP_SECONDS = 300.0

LONGEST: Mapping[Priority, timedelta] = {
    Priority.ALERT: timedelta(minutes=30),
    Priority.DECISION: timedelta(hours=24),
    Priority.DIGEST: timedelta(hours=6),
    Priority.MASS: timedelta(hours=24),
}
"""How long after the first try a message is still worth another: a stale alert is worse than none."""


def backoff(attempt: int, *, fraction: float, at_least: float | None = None) -> float:
    """Seconds until the next try after ``attempt`` (counted from 1) failed: exponential with full jitter.

    ``fraction`` in [0, 1) is the jitter's draw, given by the caller so that this stays pure. ``at_least`` is what
    the receiving system asked for (Retry-After); it is a floor, and jitter goes on top of it.
    """
    ceiling = min(_CAP_SECONDS, _BASE_SECONDS * 2.0**attempt)
    jitter = fraction * ceiling
    return at_least + jitter if at_least else max(_LEAST_SECONDS, jitter)
