"""Details that may hold personal data: encrypted, apart from the event, and the one part that can be erased.

The event keeps a digest of them under its nonce, so erasing breaks no proof, and nobody can guess from the digest.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings

from audit import proof
from audit.models import AuditEvent, AuditPayload


def keep(event: AuditEvent, text: str) -> None:
    """Store ``text`` (canonical JSON) beside its event."""
    AuditPayload.objects.create(event_pk=event.pk, body=_cipher(settings.AUDIT_PAYLOAD_KEY).encrypt(text.encode()))


def texts(events: Iterable[AuditEvent]) -> dict[int, str]:
    """What is kept beside these events, by key. An event with a digest and no text was erased, or cannot be read."""
    pks = [event.pk for event in events if event.payload_digest is not None]
    if not pks:
        return {}
    found = {}
    for payload in AuditPayload.objects.filter(event_pk__in=pks):
        with suppress(InvalidToken):  # another key, or damaged: verification names it
            found[payload.event_pk] = decrypted(payload)
    return found


def decrypted(payload: AuditPayload) -> str:
    return _cipher(settings.AUDIT_PAYLOAD_KEY).decrypt(bytes(payload.body)).decode()


def is_as_recorded(payload: AuditPayload, nonce: bytes, digest: bytes) -> bool:
    """Whether what is kept is what the event's digest was made over."""
    try:
        text = decrypted(payload)
    except InvalidToken:
        return False
    return hmac.compare_digest(proof.payload_hash(text, nonce), digest)


def forget(event_pks: Sequence[int]) -> int:
    """Delete what is kept beside these events; how many had something. The database refuses what is on hold."""
    return AuditPayload.objects.filter(event_pk__in=event_pks).delete()[0]


@cache
def _cipher(key: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()))
