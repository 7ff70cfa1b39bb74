"""What leaves, and what changes, as people see it. The text is foreign: everything is escaped first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import template
from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _

from workflows.domain import markup
from workflows.domain.content import Part

register = template.Library()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPart:
    """One payload, and how it is to be read."""

    form: str
    text: str

    @property
    def subject(self) -> str:
        """Of a mail."""
        return self.text.partition("\n")[0]

    @property
    def body(self) -> str:
        """Of a mail."""
        return self.text.partition("\n\n")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRendition:
    """What some channels show alike."""

    channels: str
    parts: Sequence[ShownPart]


_WORDS = {"True": _("yes"), "False": _("no")}

_RULES = {
    "keyword_in_title": _("keyword in the title"),
    "keyword": _("keyword"),
    "freshness": _("age"),
    "source": _("weight of the source"),
    "also_in": _("in several sources"),
}


@register.filter
def wecom_markdown(text: str) -> SafeString:
    """As WeCom shows its Markdown."""
    return mark_safe(markup.to_html(str(text)))  # noqa: S308 - it escapes


@register.filter
def shown_part(part: Part) -> ShownPart:
    return ShownPart(form=part.form, text=part.text)


@register.filter
def shown_renditions(preview: Mapping[str, Any]) -> list[ShownRendition]:
    """What each channel shows, of a mass send's preview."""
    names = {channel["id"]: channel["name"] for channel in preview.get("channels", [])}
    return [
        ShownRendition(
            channels=", ".join(names.get(pk, str(pk)) for pk in rendition["channels"]),
            parts=[
                ShownPart(form=form, text=text)
                for form, text in zip(rendition["forms"], rendition["texts"], strict=True)
            ],
        )
        for rendition in preview.get("renditions", [])
    ]


@register.filter
def rule_name(rule: str) -> str:
    """A ranking rule in words; the contract's own name where there are none."""
    return str(_RULES.get(rule, rule))


@register.filter
def model_name(label: str) -> str:
    """What a kind of object is called."""
    try:
        return str(apps.get_model(label)._meta.verbose_name)
    except LookupError:
        return label


@register.filter
def field_name(entry: Mapping[str, Any]) -> str:
    """What a field of a changed object is called."""
    try:
        return str(apps.get_model(entry["model"])._meta.get_field(entry["field"]).verbose_name)
    except (LookupError, FieldDoesNotExist):
        return str(entry["field"])


@register.filter
def shown_value(value: Any) -> SafeString:
    """A stored value in words, each on its own, so that no writing direction leaks."""
    values = value if isinstance(value, list) else [value]
    words = [_WORDS.get(str(one), one) if one not in (None, "") else "–" for one in values] or ["–"]
    return format_html_join(mark_safe("<br>"), "<bdi>{}</bdi>", ((word,) for word in words))


@register.filter
def utf8_bytes(text: str) -> int:
    return len(str(text).encode())
