"""Field differences of what people edit.

django-auditlog finds them, and each becomes an event of the one trail (``models.FieldChange``): there is one place to
search and no second truth. What it misses of many-to-many relations (``clear`` names the whole table, nothing is
announced) is taken from Django's own signal.
"""

from collections.abc import Sequence
from typing import Any

from auditlog.registry import auditlog
from django.db import models, transaction
from django.db.models.signals import m2m_changed

from audit.models import AuditEvent, FieldChange
from audit.recorder import record
from audit.vocabulary import ObjectEvent

_EVENT_OF = {
    FieldChange.Action.CREATE: ObjectEvent.CREATED,
    FieldChange.Action.UPDATE: ObjectEvent.CHANGED,
    FieldChange.Action.DELETE: ObjectEvent.DELETED,
}
_OPERATION_OF = {"post_add": "added", "post_remove": "removed", "pre_clear": "removed"}


def track(model: type[models.Model], *, exclude: Sequence[str] = (), m2m: Sequence[str] = ()) -> None:
    """Put every edit of ``model`` on the trail. ``exclude``: fields that services write and record in words."""
    auditlog.register(model, exclude_fields=list(exclude))
    for name in m2m:
        m2m_changed.connect(_relation_changed, sender=getattr(model, name).through)


def to_the_trail(instance: models.Model, action: int, changes: dict[str, Any]) -> AuditEvent:
    with transaction.atomic():
        return record(
            _EVENT_OF[action],
            target=instance,
            facts={"fields": sorted(changes)},
            erasable={"changes": changes},
        )


def _relation_changed(
    sender: type[models.Model],
    instance: models.Model,
    action: str,
    model: type[models.Model],
    pk_set: set[int] | None,
    **kwargs: Any,
) -> None:
    """``model`` is the other side's; ``pk_set`` is None when everything attached is about to be cleared."""
    if action not in _OPERATION_OF:
        return
    others = model._default_manager.filter(pk__in=pk_set) if pk_set is not None else _attached(sender, instance, model)
    if names := [str(other) for other in others]:
        name = str(model._meta.verbose_name_plural)
        changes = {name: {_OPERATION_OF[action]: names}}
        with transaction.atomic():
            record(ObjectEvent.CHANGED, target=instance, facts={"fields": [name]}, erasable={"changes": changes})


def _attached(
    through: type[models.Model], instance: models.Model, model: type[models.Model]
) -> models.QuerySet[models.Model]:
    """What a many-to-many relation holds for ``instance``, by its join table."""
    columns = {field.related_model: field.attname for field in through._meta.fields if field.is_relation}
    rows = through._default_manager.filter(**{columns[type(instance)]: instance.pk})
    return model._default_manager.filter(pk__in=rows.values(columns[model]))
