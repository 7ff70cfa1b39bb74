"""Seeing what some code writes: each watched object as it was before, and as it is after.

Django announces every save, deletion and change of a relation. Writes that it does not announce (``QuerySet.update``,
``bulk_create``) are not seen; services that use them on watched models record what they do, and a test knows them all.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import models
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save

from workflows.domain.changes import Change, Row
from workflows.services import rows

_watched: dict[type[models.Model], frozenset[str]] = {}
_active: ContextVar["Capture | None"] = ContextVar("capture", default=None)


def watch(model: type[models.Model], *, exclude: Collection[str] = ()) -> None:
    """See what happens to objects of ``model``. ``exclude``: fields that only services write."""
    _watched[model] = frozenset(exclude)
    pre_save.connect(_before_save, sender=model)
    post_save.connect(_after_save, sender=model)
    pre_delete.connect(_before_delete, sender=model)
    for field in model._meta.local_many_to_many:
        m2m_changed.connect(_before_relation, sender=getattr(model, field.name).through)


def watch_removal(model: type[models.Model]) -> None:
    """See only when an object goes: what services write by themselves, but a deletion would take along."""
    _watched[model] = frozenset()
    pre_delete.connect(_before_delete, sender=model)


def watched() -> frozenset[type[models.Model]]:
    return frozenset(_watched)


class Capture:
    """What was seen. ``bulk`` becomes true when a whole set of objects is deleted at once."""

    def __init__(self) -> None:
        self._before: dict[tuple[type[models.Model], Any], tuple[str, Row | None]] = {}
        self.bulk = False

    def see(self, model: type[models.Model], key: Any, before: Row | None, label: str) -> None:
        self._before.setdefault((model, key), (label, before))

    def see_stored(self, model: type[models.Model], key: Any) -> None:
        """The object as it is in the database now, unless it was seen already."""
        if model in _watched and (model, key) not in self._before:
            found = model._base_manager.filter(pk=key).first()
            if found is not None:
                self.see(model, key, rows.of(found), str(found)[:200])

    def changes(self) -> list[Change]:
        """What has come of it so far, objects that are as before left out."""
        return [
            Change(model=model._meta.label_lower, key=key, label=label, before=before, after=after)
            for (model, key), (label, before) in self._before.items()
            if kept(model, before) != kept(model, after := rows.read(model, key))
        ]


@contextmanager
def captured() -> Iterator[Capture]:
    """See what is written inside; an outer capture does not see it."""
    seen = Capture()
    token = _active.set(seen)
    try:
        yield seen
    finally:
        _active.reset(token)


def is_active() -> bool:
    return _active.get() is not None


def kept(model: type[models.Model], row: Row | None) -> Row | None:
    """Without what only services write."""
    return None if row is None else {name: value for name, value in row.items() if name not in _watched[model]}


def same(model: str, one: Row | None, other: Row | None) -> bool:
    """Whether two rows of a watched model say the same, what only services write aside."""
    kind = rows.model_of(model)
    return kept(kind, one) == kept(kind, other)


def _before_save(sender: type[models.Model], instance: models.Model, **kwargs: Any) -> None:
    seen = _active.get()
    if seen is not None and instance.pk is not None:
        seen.see_stored(sender, instance.pk)


def _after_save(sender: type[models.Model], instance: models.Model, **kwargs: Any) -> None:
    seen = _active.get()
    if seen is not None and kwargs["created"]:
        seen.see(sender, instance.pk, None, str(instance)[:200])


def _before_delete(sender: type[models.Model], instance: models.Model, origin: Any, **kwargs: Any) -> None:
    """Whoever is attached to it by a many-to-many relation loses that: a role's members, a workflow's source."""
    seen = _active.get()
    if seen is None:
        return
    seen.bulk = seen.bulk or isinstance(origin, models.QuerySet)
    seen.see_stored(sender, instance.pk)
    for relation in sender._meta.related_objects:
        if relation.many_to_many and relation.related_model in _watched:
            holders = relation.related_model._base_manager.filter(**{relation.field.name: instance})
            for key in holders.values_list("pk", flat=True):
                seen.see_stored(relation.related_model, key)


def _before_relation(
    instance: models.Model,
    action: str,
    reverse: bool,  # noqa: FBT001 - Django's signature
    model: type[models.Model],
    pk_set: set[Any] | None,
    sender: type[models.Model],
    **kwargs: Any,
) -> None:
    seen = _active.get()
    if seen is None or not action.startswith("pre_"):
        return
    if not reverse:
        seen.see_stored(type(instance), instance.pk)
        return
    names = [field.name for field in model._meta.local_many_to_many if field.remote_field.through is sender]
    attached = model._base_manager.filter(**{names[0]: instance}).values_list("pk", flat=True)
    for key in pk_set if pk_set is not None else list(attached):
        seen.see_stored(model, key)
