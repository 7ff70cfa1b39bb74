"""What is handed to a receiver at once, and how a receiver says that it did not take it."""

from collections.abc import Sequence
from dataclasses import dataclass

from audit.models import AuditEvent, AuditLeaf, AuditSeal


class NotTaken(Exception):
    """The receiver has not taken the batch, or has not said so. The message is a sentence for a person.

    ``retry_after``: seconds of quiet that it asked for, if any.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The events of one seal, in its order. ``gone``: how many of them are no longer in the trail."""

    seal: AuditSeal
    events: Sequence[AuditEvent]
    gone: int


def of_seal(seal: AuditSeal) -> Batch:
    pks = list(AuditLeaf.objects.filter(seal_n=seal.n).order_by("position").values_list("event_pk", flat=True))
    found = AuditEvent.objects.in_bulk(pks)
    events = [found[pk] for pk in pks if pk in found]
    return Batch(seal=seal, events=events, gone=seal.size - len(events))
