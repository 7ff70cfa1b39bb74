"""WeCom's Markdown as WeCom shows it, for previews. The text is foreign: everything is escaped first."""

import re
from collections.abc import Mapping
from typing import Any

from django import template
from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.utils.html import escape, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _

register = template.Library()

_INLINE = (
    (re.compile(r"`([^`\n]+)`"), r"<code>\1</code>"),
    (re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*"), r"<strong>\1</strong>"),
    (
        re.compile(r"\[([^\]\n]+)\]\((https?://[^\s()<>]+)\)"),
        r'<a href="\2" target="_blank" rel="noopener noreferrer nofollow">\1</a>',
    ),
    (
        re.compile(r"&lt;font color=&quot;(info|comment|warning)&quot;&gt;(.*?)&lt;/font&gt;"),
        r'<span class="wecom-\1">\2</span>',
    ),
)
_HEADING = re.compile(r"(#{1,6}) +(.+)")


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
    """Headings, bold, links, quotes, inline code and WeCom's three colours; anything else stays text."""
    return mark_safe("".join(_line(line) for line in str(text).split("\n")))  # noqa: S308 - escaped in _line


def _line(line: str) -> str:
    if not line.strip():
        return '<p class="wecom-gap"></p>'
    if heading := _HEADING.fullmatch(line):
        return f'<p class="wecom-heading">{_inline(heading[2])}</p>'
    if line.startswith(">"):
        return f"<blockquote>{_inline(line[1:].strip())}</blockquote>"
    return f"<p>{_inline(line)}</p>"


def _inline(text: str) -> str:
    html = str(escape(text))
    for pattern, replacement in _INLINE:
        html = pattern.sub(replacement, html)
    return html


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
