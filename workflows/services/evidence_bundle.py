"""A request's evidence as one file that proves itself: ``audit.proof.check_evidence`` says what has to hold.

Its text is canonical, made and hashed piece by piece, so that a send to a hundred thousand people takes no more memory
than one to ten. The manifest after it is signed, and its digest is on the trail.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context, proof, story
from audit.export import proofs
from audit.recorder import Outcome, record
from workflows.domain.errors import NotPermitted
from workflows.domain.events import Event
from workflows.models import ApprovalRequest
from workflows.services import approvals, evidence

FORMAT, VERSION = "compliance-bot/evidence", 1


def stream(*, approval: ApprovalRequest, by: User) -> Iterator[bytes]:
    """The file in pieces; that it was begun, and how it ended, are on the trail. Raises NotPermitted."""
    if not evidence.may_export(by):
        raise NotPermitted(_("Your role does not include exporting evidence."))
    parent = approvals.asked_by_event(approval.pk)
    with transaction.atomic(), context.acting(by, parent_event_id=parent) as cause:
        record(Event.EVIDENCE_EXPORT_STARTED, target=approval)
    return _told(approval, by, cause)


def _told(approval: ApprovalRequest, by: User, cause: context.Cause) -> Iterator[bytes]:
    digest, counts, complete = hashlib.sha256(), Counter[str](), False
    try:
        yield b'{"evidence":'
        for text in _evidence(approval, counts):
            piece = text.encode()
            digest.update(piece)
            yield piece
        said = {"format": FORMAT, "version": VERSION, "request": approval.pk, "by": by.get_username()}
        facts = {"made_at": timezone.now().isoformat(), "sha256": digest.hexdigest(), **_counted(counts)}
        yield f',\n"manifest":{proof.canonical(proofs.signed({**said, **facts}))}}}\n'.encode()
        complete = True
    finally:
        outcome = Outcome.SUCCESS if complete else Outcome.FAILURE
        facts = {"sha256": digest.hexdigest(), "complete": complete, **_counted(counts)}
        # The response outlives its request, so the cause is taken up again.
        with context.caused_by(cause), transaction.atomic():
            record(Event.EVIDENCE_EXPORTED, target=approval, outcome=outcome, facts=facts)


def _counted(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in ("deliveries", "events", "unsealed")}


def _evidence(approval: ApprovalRequest, counts: Counter[str]) -> Iterator[str]:
    """The evidence as canonical text."""
    short = evidence.of(approval)
    members = {name: [proof.canonical(_plain(value))] for name, value in asdict(short).items()}
    streamed = {
        "deliveries": _list(_deliveries(short.sent, counts)),
        "events": _list(_events(approval, counts)),
    }
    return _object({**members, **streamed})


def _deliveries(sent: evidence.Sent | None, counts: Counter[str]) -> Iterator[list[Any]]:
    for piece in evidence.deliveries(sent):
        counts["deliveries"] += len(piece)
        yield [_plain(asdict(delivery)) for delivery in piece]


def _events(approval: ApprovalRequest, counts: Counter[str]) -> Iterator[list[Any]]:
    for events in story.walk(approval.request_id):
        groups = proofs.groups_of(events)
        counts["events"] += len(events)
        counts["unsealed"] += sum(len(group["events"]) for group in groups if group["seal"] is None)
        yield groups


def _object(members: dict[str, Iterable[str]]) -> Iterator[str]:
    """Canonical text of an object, from the texts of its members."""
    opening = "{"
    for name in sorted(members):
        yield f"{opening}{proof.canonical(name)}:"
        yield from members[name]
        opening = ","
    yield "}"


def _list(pieces: Iterable[list[Any]]) -> Iterator[str]:
    """Canonical text of a list that is too long to hold."""
    opening = "["
    for piece in pieces:
        yield opening + ",".join(map(proof.canonical, piece))
        opening = ","
    yield "[]" if opening == "[" else "]"


def _plain(value: Any) -> Any:
    """As JSON takes it: instants in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
