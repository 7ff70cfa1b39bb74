"""Checkpoints: what the newest seal was, told outside the database, where nobody who owns the table can change it.

Every seal is a line in a file; once a day the newest is told to people as a signed note
(C2SP, tlog-checkpoint and signed-note). Seals are chained, so a checkpoint binds everything that was sealed before it.
"""

import base64
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.conf import settings
from django.db import transaction
from django.db.models import Sum
from django.utils.timezone import localdate
from django.utils.translation import gettext as _

from audit import keys, notices
from audit.models import AuditEvent, AuditSeal
from audit.recorder import Outcome, record
from audit.vocabulary import TrailEvent

logger = logging.getLogger(__name__)

ORIGIN = "compliance-bot/audit"
_ED25519 = b"\x01"
_DASH = "\N{EM DASH}"


class NotACheckpoint(Exception):
    """The text holds no checkpoint that was signed here; the message is a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says: after seal ``n``, which hashes to ``seal_hash``, ``size`` events are sealed."""

    n: int
    size: int
    seal_hash: bytes


def append(seal: AuditSeal) -> None:
    """One line outside the database a seal: whoever cuts off or replaces the table cannot also cut this.

    Point AUDIT_CHECKPOINT_FILE at another disk or a mounted share to put it outside the machine as well.
    """
    told = {
        "origin": ORIGIN,
        "n": seal.n,
        "sealed_at": seal.sealed_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "seal_hash": bytes(seal.seal_hash).hex(),
        "key": seal.key_id,
        "signature": bytes(seal.signature).hex(),
    }
    try:
        with settings.AUDIT_CHECKPOINT_FILE.open("ab+") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            # A line that a full disk or a crash cut off must not swallow this one.
            start = b"" if file.read(1) in (b"", b"\n") else b"\n"
            file.write(start + json.dumps(told).encode("ascii") + b"\n")
    except OSError:
        # The seal stands, and the next line binds it too.
        logger.exception("seal %s: its checkpoint could not be written", seal.n)


def newest() -> str | None:
    """The newest checkpoint as a signed note; None before the first seal."""
    seal = AuditSeal.objects.order_by("-n").first()
    return note(seal) if seal else None


def note(seal: AuditSeal) -> str:
    """Origin, number of sealed events, hash of the seal, number of the seal; a blank line; the signature."""
    size = AuditSeal.objects.filter(n__lte=seal.n).aggregate(events=Sum("size"))["events"]
    told = f"{ORIGIN}\n{size}\n{_base64(bytes(seal.seal_hash))}\nseal {seal.n}\n"
    key = keys.signing_key()
    signature = _key_hash(key.public_key()) + key.sign(told.encode())
    return f"{told}\n{_DASH} {ORIGIN} {_base64(signature)}\n"


def read(text: str) -> Checkpoint:
    """The checkpoint in a text that may hold more, such as a saved mail. Raises NotACheckpoint."""
    lines = [line.strip() for line in text.splitlines()]
    try:
        start = lines.index(ORIGIN)
        origin, size, seal_hash, number, blank, signature = lines[start : start + 6]
        dash, signer, signed = signature.split(" ")
        found = Checkpoint(
            n=int(number.removeprefix("seal ")), size=int(size), seal_hash=base64.b64decode(seal_hash, validate=True)
        )
        given = base64.b64decode(signed, validate=True)
    except ValueError as error:
        raise NotACheckpoint(_("There is no checkpoint in it.")) from error
    if blank or (dash, signer) != (_DASH, ORIGIN):
        raise NotACheckpoint(_("There is no checkpoint in it."))
    _require_ours(f"{origin}\n{size}\n{seal_hash}\n{number}\n".encode(), given)
    return found


def is_intact(checkpoint: Checkpoint) -> bool:
    """Whether the trail still has what the checkpoint says. Whether it holds together, a verification tells."""
    seal = AuditSeal.objects.filter(n=checkpoint.n).first()
    if seal is None or bytes(seal.seal_hash) != checkpoint.seal_hash:
        return False
    size = AuditSeal.objects.filter(n__lte=seal.n).aggregate(events=Sum("size"))["events"]
    return bool(size == checkpoint.size)


def send_daily(now: datetime) -> None:
    """Tell the newest checkpoint to whoever is told notices, once a day, and record it. Nobody to tell: nothing."""
    receivers = notices.receivers()
    seal = AuditSeal.objects.order_by("-n").first()
    if not receivers or seal is None or _was_sent(now):
        return
    subject = _("Audit checkpoint: seal %(n)s") % {"n": seal.n}
    failures = notices.tell(subject, note(seal))
    outcome = Outcome.FAILURE if failures else Outcome.SUCCESS
    facts = {"n": seal.n, "seal_hash": bytes(seal.seal_hash).hex(), "receivers": receivers, "failures": failures}
    with transaction.atomic():
        record(TrailEvent.CHECKPOINT_SENT, outcome=outcome, facts=facts)


def _was_sent(now: datetime) -> bool:
    """Whether everybody was told on this day."""
    sent = AuditEvent.objects.filter(what=TrailEvent.CHECKPOINT_SENT, outcome=Outcome.SUCCESS)
    last = sent.order_by("-pk").values_list("at", flat=True).first()
    return last is not None and localdate(last) == localdate(now)


def _require_ours(told: bytes, signature: bytes) -> None:
    key_of = {_key_hash(key): key for key in keys.public_keys().values()}
    key = key_of.get(signature[:4])
    if key is None:
        raise NotACheckpoint(_("It was signed with a key that is not one of ours."))
    try:
        key.verify(signature[4:], told)
    except InvalidSignature as error:
        raise NotACheckpoint(_("It was changed: its signature is not valid.")) from error


def _key_hash(key: Ed25519PublicKey) -> bytes:
    """How a signed note names a key."""
    named = ORIGIN.encode() + b"\n" + _ED25519 + key.public_bytes_raw()
    return hashlib.sha256(named).digest()[:4]


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
