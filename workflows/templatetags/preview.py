"""What an officer is shown of any action: objects, lists and texts of JSON, in words and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from django import template
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from workflows.domain.states import DeliveryState, Verdict

register = template.Library()

_NAMES = {
    "address": gettext_lazy("address"),
    "after": gettext_lazy("after"),
    "audience": gettext_lazy("audience"),
    "before": gettext_lazy("before"),
    "changes": gettext_lazy("changes"),
    "channel": gettext_lazy("channel"),
    "channel_id": gettext_lazy("channel number"),
    "channels": gettext_lazy("channels"),
    "count": gettext_lazy("count"),
    "field": gettext_lazy("field"),
    "fingerprint": gettext_lazy("fingerprint"),
    "id": gettext_lazy("number"),
    "is_group": gettext_lazy("is a group"),
    "kind": gettext_lazy("kind"),
    "label": gettext_lazy("label"),
    "name": gettext_lazy("name"),
    "object": gettext_lazy("object"),
    "objects": gettext_lazy("objects"),
    "people": gettext_lazy("people"),
    "recipients": gettext_lazy("recipients"),
    "send_at": gettext_lazy("send at"),
    "size": gettext_lazy("size"),
    "subject": gettext_lazy("subject"),
    "urgent": gettext_lazy("urgent"),
    "valid_until": gettext_lazy("not after"),
}


@register.filter
def shape(value: Any) -> str:
    """How it is laid out: as ``facts``, a ``table``, a ``list``, or ``text``."""
    if not value or not isinstance(value, Mapping | list):
        return "text"
    if isinstance(value, Mapping):
        return "facts"
    return "table" if all(isinstance(row, Mapping) for row in value) else "list"


@register.filter
def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of all rows, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


@register.filter
def cells(row: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    return [row.get(name) for name in names]


@register.filter
def in_words(name: str) -> str:
    """A name of the preview; as it stands where there are no words for it."""
    return str(_NAMES.get(name, name.replace("_", " ")))


@register.filter
def as_text(value: Any) -> str:
    """A single value; nothing is a dash, so that an empty cell is seen to be empty."""
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return "–" if value is None or value in ("", [], {}) else str(value)


@register.filter
def without(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: entry for key, entry in value.items() if key != name}


@register.filter
def in_hex(value: bytes) -> str:
    return bytes(value).hex()


@register.filter
def delivery_state(state: str) -> str:
    """In words; an attempt without an end has none yet."""
    return str(DeliveryState(state).label) if state else "…"


@register.filter
def verdict(value: str) -> str:
    return str(Verdict(value).label)
