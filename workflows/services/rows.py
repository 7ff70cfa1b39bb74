"""Stored objects as plain rows and back, by Django's own serialiser."""

import json
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core import serializers
from django.db import models
from django.utils.encoding import force_str

from workflows.domain.changes import Row

# Never shown, in no form; the digest binds them all the same.
HIDDEN = frozenset({"password"})


def read(model: type[models.Model], key: Any) -> Row | None:
    """The object's fields as they are in the database now."""
    found = model._base_manager.filter(pk=key).first()
    return None if found is None else of(found)


def of(instance: models.Model) -> Row:
    (row,) = json.loads(serializers.serialize("json", [instance]))
    fields: dict[str, Any] = row["fields"]
    return {name: sorted(value) if name in _relations(type(instance)) else value for name, value in fields.items()}


def build(model: str, key: int | None, row: Row) -> models.Model:
    """An unsaved instance with these fields; without its many-to-many relations."""
    (made,) = serializers.deserialize("python", [{"model": model, "pk": key, "fields": dict(row)}])
    instance: models.Model = made.object
    return instance


def model_of(label: str) -> type[models.Model]:
    return apps.get_model(label)


def shown(model: str, row: Row | None, name: str) -> Any:
    """A field's value in words: what a relation leads to by its name, many of them as a list."""
    if row is None or row.get(name) is None:
        return None
    if name in HIDDEN:
        return "••••••••"
    field = model_of(model)._meta.get_field(name)
    value = row[name]
    if isinstance(field, models.ManyToManyField):
        return sorted(_names(field.related_model, value))
    if isinstance(field, models.ForeignKey):
        return next(_names(field.related_model, [value]), f"#{value}")
    return value if isinstance(value, dict | list) else force_str(value)


def _names(model: Any, keys: list[Any]) -> Iterator[str]:
    return (str(other) for other in model._base_manager.filter(pk__in=keys))


def _relations(model: type[models.Model]) -> set[str]:
    return {field.name for field in model._meta.local_many_to_many}
