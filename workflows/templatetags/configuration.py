"""A workflow's configuration, and what differs between two, in words."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django import template
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.utils.dateparse import parse_datetime
from django.utils.text import capfirst
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from workflows.domain import configuration
from workflows.domain.configuration import Difference
from workflows.models import AudienceMember, Cadence, Channel, Source, Workflow
from workflows.templatetags.preview import as_text

register = template.Library()

_MODELS: Mapping[str, type[models.Model]] = {
    "workflow": Workflow,
    "sources": Source,
    "cadences": Cadence,
    "audience": AudienceMember,
    "channels": Channel,
}
_NESTED = {
    "name": gettext_lazy("name"),
    "store": gettext_lazy("store"),
    "rotated_at": gettext_lazy("value stored at"),
}
_COMPUTED = {
    "includes": gettext_lazy("included audiences"),
    "further_members": gettext_lazy("further members"),
    "further_members_sha256": gettext_lazy("further members, SHA-256"),
}
_HOW = {"added": gettext_lazy("added"), "removed": gettext_lazy("removed"), "changed": gettext_lazy("changed")}


@register.filter
def described(content: Mapping[str, Any]) -> Iterable[Difference]:
    return configuration.described(content)


@register.filter
def part_label(part: str) -> str:
    """What kind of object it is."""
    return capfirst(str(_MODELS[part]._meta.verbose_name))


@register.filter
def how_label(how: str) -> str:
    return str(_HOW[how])


@register.filter
def field_label(name: str, part: str) -> str:
    """A field by its own name; what is nested by the path to it."""
    root, *rest = name.split(".")
    if root == "secrets":
        field, what = rest
        return _("secret “%(field)s”: %(what)s") % {"field": field, "what": _NESTED[what]}
    return " · ".join([_verbose_name(part, root), *rest])


def _verbose_name(part: str, name: str) -> str:
    try:
        return str(_MODELS[part]._meta.get_field(name).verbose_name)  # type: ignore[union-attr]
    except FieldDoesNotExist:
        return str(_COMPUTED.get(name, name))


@register.simple_tag
def field_value(value: Any, part: str, name: str) -> str:
    """A value as its form shows it: choices in words, yes and no, a dash for nothing."""
    if isinstance(value, str) and name.endswith(".rotated_at"):
        stored_at = instant(value)
        return f"{localtime(stored_at):%Y-%m-%d %H:%M:%S}" if stored_at else value
    if isinstance(value, str):
        field = next((field for field in _MODELS[part]._meta.concrete_fields if field.name == name), None)
        choices = dict(field.flatchoices) if field is not None else {}
        return str(choices.get(value, value)) or "–"
    return as_text(value)


@register.filter
def instant(text: str) -> datetime | None:
    """A time of the preview, to be shown by the ``date`` filter."""
    return parse_datetime(text)
