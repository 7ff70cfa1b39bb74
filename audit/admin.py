"""The trail's page: look, filter, open the story of one request. Nothing here writes."""

import json
import uuid
from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from audit import vocabulary
from audit.models import AuditEvent
from compliance_bot.guardrails.paging import BoundedPaginator, CalmList

_KINDS = {"system": _("the system"), "anonymous": _("somebody not signed in")}


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

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[AuditEvent], search_term: str
    ) -> tuple[models.QuerySet[AuditEvent], bool]:
        try:
            return queryset.filter(request_id=uuid.UUID(search_term.strip())), False
        except ValueError:
            return super().get_search_results(request, queryset, search_term)

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
