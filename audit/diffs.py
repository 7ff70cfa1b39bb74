"""Field diffs of what people edit.

django-auditlog computes them; each becomes an event of the one trail, so that officers search one place.
"""

from typing import Any

from auditlog.models import LogEntry
from auditlog.registry import auditlog
from auditlog.signals import post_log
from django.db import models, transaction
from django.dispatch import receiver

from audit import context
from audit.recorder import record
from audit.vocabulary import ObjectEvent

_EVENT_OF = {
    LogEntry.Action.CREATE: ObjectEvent.CREATED,
    LogEntry.Action.UPDATE: ObjectEvent.CHANGED,
    LogEntry.Action.DELETE: ObjectEvent.DELETED,
}


def track(model: type[models.Model], *, exclude: tuple[str, ...] = (), m2m: tuple[str, ...] = ()) -> None:
    """Put every edit of ``model`` on the trail. ``exclude``: fields that services write on their own."""
    auditlog.register(model, exclude_fields=list(exclude), m2m_fields=set(m2m))


def request_id() -> str:
    """The id that django-auditlog stores with its own rows: ours, never a client's header."""
    return str(context.current().request_id)


@receiver(post_log)
def to_the_trail(
    instance: models.Model,
    action: int,
    changes: dict[str, Any] | None,
    error: Exception | None = None,
    **kwargs: Any,
) -> None:
    if error is not None:
        raise error  # what cannot be recorded does not happen
    if changes:
        with transaction.atomic():
            record(_EVENT_OF[action], target=instance, facts={"changes": changes})
