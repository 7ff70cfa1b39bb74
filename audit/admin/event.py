"""The trail: search it, open the story of one cause, look at one event. Nothing is edited here."""

import json
import re
import uuid
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from audit import payloads, search, story
from audit.forms import SearchForm
from audit.models import AuditEvent, AuditLeaf

_SIZE = 50
# Of JSON: a text, or what stands between two of them.
_PIECES = re.compile(r'"(?:[^"\\]|\\.)*"|[^"]+')
_KEY_LIMIT = 2**63 - 1


@admin.register(AuditEvent)
class AuditEventAdmin(admin.ModelAdmin[AuditEvent]):
    fields = (
        *("at", "who", "what_shown", "outcome_shown", "target_shown", "why_shown", "changes", "facts_shown"),
        *("story_link", "caused_by", "ip", "event_id", "seal"),
    )

    def get_urls(self) -> list[URLPattern]:
        told = path("story/<uuid:request_id>/", self.admin_site.admin_view(self.story), name="audit_story")
        return [told, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The newest events that match; impossible input is told at its field and finds nothing."""
        self._require_view(request)
        form = SearchForm(request.GET)
        page, count = search.Page(events=[], newer=None, older=None), ""
        if form.is_valid():
            asked = form.search()
            before, after = _key(request.GET.get("before")), _key(request.GET.get("after"))
            page = search.page(asked, size=_SIZE, before=before, after=after)
            count = _count(page, asked)
        return self._page(
            request,
            "admin/audit/search.html",
            title=_("Audit events"),
            form=form,
            page=page,
            count=count,
            is_filtered=any(form.data.get(name) for name in form.fields),
            address=_address(request),
        )

    def story(self, request: HttpRequest, request_id: uuid.UUID) -> HttpResponse:
        """Everything that belongs to one cause, in the order in which it happened."""
        self._require_view(request)
        told = story.tell(request_id)
        if not told.events:
            raise Http404
        return self._page(
            request,
            "admin/audit/story.html",
            title=_("Story of a request"),
            request_id=request_id,
            story=told,
            requests=len({event.request_id for event in told.events}),
        )

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponseRedirect:
        """What belongs to an event is the rest of its story."""
        event = self.get_object(request, object_id)
        if event is None:
            raise Http404
        return HttpResponseRedirect(reverse("admin:audit_story", args=[event.request_id]))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditEvent | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditEvent | None = None) -> bool:
        return False

    def _require_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _page(self, request: HttpRequest, template: str, **facts: Any) -> TemplateResponse:
        return TemplateResponse(
            request, template, {**self.admin_site.each_context(request), "opts": self.opts, **facts}
        )

    @admin.display(description=gettext_lazy("who"))
    def who(self, obj: AuditEvent) -> SafeString:
        return format_html("<bdi>{}</bdi>", obj.who)

    @admin.display(description=gettext_lazy("what"))
    def what_shown(self, obj: AuditEvent) -> SafeString:
        return format_html('{} <span class="quiet">{}</span>', obj.what_label, obj.what)

    @admin.display(description=gettext_lazy("object"))
    def target_shown(self, obj: AuditEvent) -> SafeString | str:
        if not obj.target_type:
            return "–"
        return format_html(
            '<bdi>{}</bdi> <span class="quiet">{}:{}</span>', obj.target_label, obj.target_type, obj.target_id
        )

    @admin.display(description=gettext_lazy("why"))
    def why_shown(self, obj: AuditEvent) -> SafeString | str:
        return format_html("<bdi>{}</bdi>", obj.why) if obj.why else "–"

    @admin.display(description=gettext_lazy("outcome"))
    def outcome_shown(self, obj: AuditEvent) -> SafeString:
        return format_html('<span class="badge badge-{}">{}</span>', obj.outcome, obj.get_outcome_display())

    @admin.display(description=gettext_lazy("request"))
    def story_link(self, obj: AuditEvent) -> SafeString:
        url = reverse("admin:audit_story", args=[obj.request_id])
        return format_html('<a class="request" href="{}">{}</a>', url, obj.request_id)

    @admin.display(description=gettext_lazy("caused by"))
    def caused_by(self, obj: AuditEvent) -> SafeString | str:
        parent = AuditEvent.objects.filter(event_id=obj.parent_event_id).first() if obj.parent_event_id else None
        if parent is None:
            return "–"
        url = reverse("admin:audit_auditevent_change", args=[parent.pk])
        return format_html('<a href="{}">{}</a>', url, parent)

    @admin.display(description=gettext_lazy("changes"))
    def changes(self, obj: AuditEvent) -> SafeString | str:
        """Field by field what was before and after, unless it was erased."""
        if obj.payload_digest is None:
            return "–"
        text = payloads.texts([obj]).get(obj.pk)
        if text is None:
            return _("Erased. The event itself and its proof remain.")
        rows = format_html_join(
            "", "<tr><th scope='row'><bdi>{}</bdi></th><td><bdi>{}</bdi></td></tr>", _differences(json.loads(text))
        )
        return format_html('<table class="changes">{}</table>', rows)

    @admin.display(description=gettext_lazy("details"))
    def facts_shown(self, obj: AuditEvent) -> SafeString | str:
        try:
            facts = obj.facts
        except (ValueError, TypeError, KeyError, RecursionError):
            return _("They cannot be read: verify the trail.")
        return format_html('<pre class="json">{}</pre>', _isolated(facts)) if facts else "–"

    @admin.display(description=gettext_lazy("seal"))
    def seal(self, obj: AuditEvent) -> str:
        leaf = AuditLeaf.objects.filter(event_pk=obj.pk).first()
        return _("waits for the next one") if leaf is None else f"{leaf.seal_n} / {leaf.position + 1}"


def _isolated(facts: dict[str, Any]) -> SafeString:
    """JSON in which each text has a direction of its own, so that none turns round what stands beside it."""
    pieces = _PIECES.findall(json.dumps(facts, indent=2, ensure_ascii=False))
    return format_html_join("", "<bdi>{}</bdi>", ((piece,) for piece in pieces))


def _differences(payload: dict[str, Any]) -> list[tuple[str, str]]:
    """(field, "before → after") of an edit; for a relation, what was added or removed."""
    told = []
    for name, change in payload.get("changes", {}).items():
        if isinstance(change, list) and len(change) == 2:
            told.append((name, f"{change[0]} → {change[1]}"))
        else:
            told.append((name, json.dumps(change, ensure_ascii=False)))
    return told


def _count(page: search.Page, asked: search.Search) -> str:
    """How many there are, beside the first page: further ones are turned quickly."""
    if page.newer is not None:
        return ""
    counted, is_all = (0, True) if page.older is None else search.count_quickly(asked)
    number = max(counted, len(page.events))
    shown = {"n": number_format(number, force_grouping=True)}
    return ngettext("%(n)s event", "%(n)s events", number) % shown if is_all else _("%(n)s+ events") % shown


def _key(text: str | None) -> int | None:
    """A page's key from the address; anything else is the first page."""
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return min(int(text[:19]), _KEY_LIMIT)


def _address(request: HttpRequest) -> str:
    """The search without the page, as a query string to put a page to."""
    query = request.GET.copy()
    for name in ("before", "after"):
        query.pop(name, None)
    return query.urlencode()
