"""Batches of events as JSON over HTTPS, for a SIEM's collector or a small service of one's own."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone

from audit.forwarding.batch import Batch, NotTaken
from audit.forwarding.ocsf import shaped
from compliance_bot.guardrails.http import GuardedSession, Limits, OutboundError, Reply

_LIMITS = Limits(connect=5, read=10, total=20, max_bytes=2**20)
_PORTS = {"https": 443, "http": 80}
_LONGEST_QUIET = 3600.0  # seconds; a longer Retry-After is not believed


def send(batch: Batch) -> None:
    """Hand one batch to the receiver at AUDIT_FORWARD_URL. Raises NotTaken."""
    headers = {"Idempotency-Key": bytes(batch.seal.seal_hash).hex()}
    if settings.AUDIT_FORWARD_TOKEN:
        headers["Authorization"] = f"Bearer {settings.AUDIT_FORWARD_TOKEN}"
    try:
        payload = body(batch)
    except (ValueError, KeyError) as error:  # somebody went round the trail's guards; a verification names the event
        raise NotTaken(f"An event of seal {batch.seal.n} cannot be read: verify the trail.") from error
    with GuardedSession(allow=[*settings.EGRESS_ALLOW, _place(settings.AUDIT_FORWARD_URL)]) as http:
        try:
            reply = http.post_json(settings.AUDIT_FORWARD_URL, payload, headers=headers, limits=_LIMITS)
        except OutboundError as error:
            raise NotTaken(str(error)) from None
    if not 200 <= reply.status < 300:
        raise NotTaken(f"The receiver answered HTTP {reply.status}.", retry_after=_quiet(reply))


def body(batch: Batch) -> dict[str, Any]:
    """What is sent: the seal, and its events in the seal's order."""
    seal = batch.seal
    return {
        "seal": {
            "n": seal.n,
            "sealed_at": seal.sealed_at.astimezone(UTC).isoformat(timespec="microseconds"),
            "size": seal.size,
            "gone": batch.gone,
            "root": bytes(seal.root).hex(),
            "previous": bytes(seal.previous_hash).hex(),
            "seal_hash": bytes(seal.seal_hash).hex(),
            "key": seal.key_id,
            "signature": bytes(seal.signature).hex(),
        },
        "events": [shaped(event) for event in batch.events],
    }


def _place(url: str) -> str:
    """The receiver as "host:port": whoever runs the product named it, so it may stand in a private network."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    return f"{host}:{parts.port or _PORTS[parts.scheme]}"


def _quiet(reply: Reply) -> float | None:
    """For how many seconds an overloaded receiver asks not to be called, in either form of Retry-After."""
    said = reply.headers.get("Retry-After", "").strip()
    if reply.status not in (429, 503) or not said:
        return None
    if re.fullmatch(r"[0-9]{1,9}", said):
        return min(float(said), _LONGEST_QUIET)
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, min((until.astimezone(UTC) - timezone.now()).total_seconds(), _LONGEST_QUIET))
