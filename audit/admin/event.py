"""The trail's pages: look, filter, open the story of one request, export, verify. Events are never edited here."""

import json
import uuid
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import PermissionDenied
from django.db import connection, models
from django.http import HttpRequest, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from audit import sealing, triggers, vocabulary
from audit.export import BOM, Export, stream
from audit.models import AuditEvent
from audit.verification import Problem, Tally, verify_and_record
from compliance_bot.guardrails.paging import BoundedPaginator, CalmList

_KINDS = {"system": _("the system"), "anonymous": _("somebody not signed in")}


class ExportForm(forms.Form):
    reason = forms.CharField(
        label=_("Reason"),
        max_length=500,
        widget=AdminTextInputWidget(attrs={"class": "vLargeTextField"}),
        help_text=_("Why it is exported; the trail keeps it with the file's digest."),
    )
    form = forms.ChoiceField(label=_("Format"), choices=[("csv", "CSV"), ("jsonl", "JSON Lines")])
    excel = forms.BooleanField(label=_("For Excel (byte order mark)"), required=False, initial=True)


class WhatFilter(admin.SimpleListFilter):
    title = _("what")
    parameter_name = "what"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return vocabulary.choices()

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[AuditEvent]) -> models.QuerySet[AuditEvent]:
        return queryset.filter(what=self.value()) if self.value() else queryset


@admin.register(AuditEvent)
class AuditEventAdmin(CalmList, admin.ModelAdmin[AuditEvent]):
    list_display = ("at", "who", "what_shown", "target_shown", "outcome_shown", "why_shown", "story")
    list_display_links = ("at",)
    list_filter = (WhatFilter, "outcome", "who_kind", "at")
    search_fields = ("who_label",)
    search_help_text = _("A name, or a request id.")
    show_full_result_count = False
    paginator = BoundedPaginator
    list_per_page = 50
    actions = None
    fields = (
        "at",
        "who",
        "what_shown",
        "outcome_shown",
        "target_shown",
        "why",
        "request_id",
        "ip",
        "event_id",
        "facts_shown",
    )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("export/", view(self.export), name="audit_export"),
            path("health/", view(self.health), name="audit_health"),
            *super().get_urls(),
        ]

    def export(self, request: HttpRequest) -> HttpResponseBase:
        """GET asks why, POST streams the events that the list's filters in the address choose."""
        if not request.user.has_perm("audit.export_auditevent"):
            raise PermissionDenied
        form = ExportForm(request.POST or None)
        try:
            events = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(f"{reverse('admin:audit_auditevent_changelist')}?e=1")
        if not form.is_valid():
            bounded = self.get_paginator(request, events, self.list_per_page).count
            return self._page(request, "admin/audit/export.html", title=_("Export"), form=form, count=bounded)
        chosen = form.cleaned_data
        export = Export(
            form=chosen["form"],
            query=request.GET.urlencode() or "everything",
            reason=chosen["reason"],
            bom=BOM if chosen["excel"] and chosen["form"] == "csv" else "",
        )
        kind = "text/csv; charset=utf-8" if export.form == "csv" else "application/jsonl"
        name = f"audit-{timezone.now():%Y%m%dT%H%M%SZ}.{export.form}"
        response = StreamingHttpResponse(stream(events, export), content_type=kind)
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response

    def health(self, request: HttpRequest) -> HttpResponseBase:
        """Whether the trail is whole; POST verifies it now."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        problems: list[Problem] | None = None
        tally = Tally()
        if request.method == "POST":
            problems = verify_and_record(tally)
        seal, late = sealing.status(timezone.now())
        facts = {"seal": seal, "late": late, "missing": sorted(triggers.GUARDS.missing(connection))}
        last = AuditEvent.objects.filter(what=vocabulary.TrailEvent.VERIFIED).first()
        return self._page(
            request,
            "admin/audit/health.html",
            title=_("Trail health"),
            problems=problems,
            tally=tally,
            last=last,
            **facts,
        )

    def _page(self, request: HttpRequest, template: str, **facts: Any) -> TemplateResponse:
        return TemplateResponse(
            request, template, {**self.admin_site.each_context(request), "opts": self.opts, **facts}
        )

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[AuditEvent], search_term: str
    ) -> tuple[models.QuerySet[AuditEvent], bool]:
        try:
            return queryset.filter(request_id=uuid.UUID(search_term.strip())), False
        except ValueError:
            return super().get_search_results(request, queryset, search_term)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponseRedirect:
        """What belongs to an event is the rest of its request's story."""
        event = self.get_object(request, object_id)
        story = f"?q={event.request_id}" if event else ""
        return HttpResponseRedirect(f"{reverse('admin:audit_auditevent_changelist')}{story}")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditEvent | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditEvent | None = None) -> bool:
        return False

    @admin.display(description=_("who"), ordering="who_label")
    def who(self, obj: AuditEvent) -> str:
        person = obj.who_label if obj.who_kind == "user" else str(_KINDS.get(obj.who_kind, obj.who_kind))
        return f"{person} ← {obj.on_behalf_of}" if obj.on_behalf_of else person

    @admin.display(description=_("what"), ordering="what")
    def what_shown(self, obj: AuditEvent) -> str:
        return obj.what_label

    @admin.display(description=_("object"))
    def target_shown(self, obj: AuditEvent) -> str:
        return obj.target_label or "–"

    @admin.display(description=_("outcome"), ordering="outcome")
    def outcome_shown(self, obj: AuditEvent) -> SafeString:
        return format_html('<span class="badge badge-{}">{}</span>', obj.outcome, obj.get_outcome_display())

    @admin.display(description=_("why"))
    def why_shown(self, obj: AuditEvent) -> str:
        return obj.why if len(obj.why) <= 80 else f"{obj.why[:79]}…"

    @admin.display(description=_("request"))
    def story(self, obj: AuditEvent) -> SafeString:
        return format_html(
            '<a class="request" href="?q={0}" title="{0}">{1}</a>', obj.request_id, str(obj.request_id)[-8:]
        )

    @admin.display(description=_("details"))
    def facts_shown(self, obj: AuditEvent) -> SafeString:
        return format_html('<pre class="json">{}</pre>', json.dumps(obj.facts, indent=2, ensure_ascii=False))
