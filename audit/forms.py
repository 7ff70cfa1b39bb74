"""The search as a form: what officers fill in, and what an address that they share says."""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _

from audit import vocabulary
from audit.models import AuditEvent
from audit.search import Search

# NUL and lone surrogates: the recorder puts other characters in their places.
_NOT_STORED = re.compile("[\x00\ud800-\udfff]")


class MomentField(forms.Field):
    """A day, or an instant in ISO 8601. A day means its beginning, and ``days_added`` after that."""

    widget = forms.TextInput(attrs={"placeholder": "2026-01-31", "autocomplete": "off", "spellcheck": "false"})

    def __init__(self, *, days_added: int = 0, **kwargs: Any) -> None:
        self.days_added = timedelta(days=days_added)
        super().__init__(required=False, **kwargs)

    def to_python(self, value: Any) -> datetime | None:
        text = str(value or "").strip()
        if not text:
            return None
        try:
            return self._moment(text[:40])
        except (ValueError, OverflowError):
            raise ValidationError(
                _("“%(text)s” is not a date. Write it like 2026-01-31, or 2026-01-31 09:30."),
                params={"text": text[:40]},
            ) from None

    def _moment(self, text: str) -> datetime:
        """Raises ValueError for what is no date, and OverflowError beyond the calendar, in any time zone."""
        moment = self._parsed(text)
        if not 1970 < moment.astimezone(UTC).year < 9999:
            raise ValueError(text)
        return moment

    def _parsed(self, text: str) -> datetime:
        if (day := parse_date(text)) is not None:
            return timezone.make_aware(datetime.combine(day, time.min)) + self.days_added
        instant = parse_datetime(text)
        if instant is None:
            raise ValueError(text)
        return instant if timezone.is_aware(instant) else timezone.make_aware(instant)


class _TextField(forms.CharField):
    """Any text is a search: a character that no event can hold parts words, and is no error."""

    def to_python(self, value: Any) -> Any:
        return super().to_python(_NOT_STORED.sub(" ", value) if isinstance(value, str) else value)


class _LongSelect(forms.Select):
    """Django's own renders a template for each option; a hundred of them cost more than the search."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        groups = format_html_join("", "{}", ((_options(group),) for group in self.choices))
        chosen = format_html('value="{}"', value or "")
        marked = mark_safe(groups.replace(chosen, f"{chosen} selected"))  # noqa: S308 - put together from safe parts
        return format_html('<select name="{}" id="{}">{}</select>', name, (attrs or {}).get("id", ""), marked)


def _options(group: tuple[str, Any]) -> SafeString:
    """One choice, or a named group of them."""
    value, label = group
    if isinstance(label, list):
        inner = format_html_join("", '<option value="{}">{}</option>', label)
        return format_html('<optgroup label="{}">{}</optgroup>', value, inner)
    return format_html('<option value="{}">{}</option>', value, label)


class SearchForm(forms.Form):
    """All fields may be empty, and any of them may be combined. An unknown field in the address is an error."""

    q = _TextField(
        label=_("Search"),
        required=False,
        max_length=500,
        widget=forms.TextInput(attrs={"type": "search", "placeholder": _("Words, names, ids")}),
    )
    since = MomentField(label=_("from"))
    until = MomentField(label=_("to"), days_added=1)
    who = _TextField(label=_("who"), required=False, max_length=150)
    what = forms.CharField(label=_("what"), required=False, max_length=60)
    outcome = forms.ChoiceField(
        label=_("outcome"), required=False, choices=[("", _("any")), *AuditEvent.Outcome.choices]
    )
    kind = forms.ChoiceField(
        label=_("kind of actor"),
        required=False,
        choices=[
            *(("", _("any")), ("user", _("a person")), ("system", _("the system"))),
            ("anonymous", _("somebody not signed in")),
        ],
    )
    object = _TextField(
        label=_("object"), required=False, max_length=110, help_text=_("Its kind, or kind:id, as in a link.")
    )
    request = forms.UUIDField(
        label=_("request"), required=False, error_messages={"invalid": _("This is not a request id.")}
    )
    story = forms.UUIDField(required=False, widget=forms.HiddenInput)
    why = _TextField(label=_("why"), required=False, max_length=200)

    def __init__(self, data: QueryDict | dict[str, str] | None = None) -> None:
        super().__init__(data or {})
        choices = [("", _("any")), *_by_area()]
        self.fields["what"].widget = _LongSelect(choices=choices)

    def clean_what(self) -> str:
        what: str = self.cleaned_data["what"]
        if what and not vocabulary.is_declared(what) and what not in vocabulary.areas():
            raise ValidationError(_("There is no event called “%(what)s”."), params={"what": what})
        return what

    def clean(self) -> None:
        found = self.cleaned_data
        if found.get("since") and found.get("until") and found["since"] >= found["until"]:
            self.add_error("until", _("This is before the beginning of the time."))
        if unknown := sorted(set(self.data) - set(self.fields) - _OF_THE_PAGE):
            self.add_error(None, _("There is no field called “%(name)s”.") % {"name": unknown[0][:40]})

    def search(self) -> Search:
        """What a valid form asks for."""
        return Search(**{name: value for name, value in self.cleaned_data.items() if value})


# What else an address of the list may carry.
_OF_THE_PAGE = {"before", "after"}


def _by_area() -> list[tuple[str, list[tuple[str, str]]]]:
    """The names of events, under what they are about; the whole area can be chosen too."""
    grouped: dict[str, list[tuple[str, str]]] = {}
    for what, label in vocabulary.choices():
        grouped.setdefault(what.partition(".")[0], []).append((what, label))
    return [
        (area, [(area, str(_("all of %(area)s") % {"area": area})), *members])
        for area, members in sorted(grouped.items())
    ]
