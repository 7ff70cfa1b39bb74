"""Scheduled reports: set up by whoever may export, and changed by their owner alone."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import SuspiciousFileOperation, ValidationError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.text import get_valid_filename
from django.utils.translation import gettext_lazy as _

from audit import reports
from audit.export import jobs
from audit.models import AuditReport
from compliance_bot.guardrails.paging import CalmList


class ReportForm(forms.ModelForm[AuditReport]):
    class Meta:
        model = AuditReport
        fields = ("name", "query", "form", "period", "reason", "enabled")
        widgets = {"query": forms.Textarea(attrs={"rows": 2}), "reason": forms.Textarea(attrs={"rows": 2})}

    def clean_name(self) -> str:
        """Its files are called by it: no other report's may be called the same."""
        name: str = self.cleaned_data["name"]
        others = AuditReport.objects.exclude(pk=self.instance.pk).values_list("name", flat=True)
        try:
            taken = get_valid_filename(name).casefold() in {get_valid_filename(other).casefold() for other in others}
        except SuspiciousFileOperation:
            raise ValidationError(_("Use letters and digits: files are called by this name.")) from None
        if taken:
            raise ValidationError(_("Another report's files are called like this."))
        return name

    def clean_query(self) -> str:
        query: str = self.cleaned_data["query"]
        if reports.search_of(query) is None:
            raise ValidationError(_("This search cannot be read. Paste the address of the list, or write words."))
        return query


@admin.register(AuditReport)
class AuditReportAdmin(CalmList, admin.ModelAdmin[AuditReport]):
    form = ReportForm
    list_display = ("name", "period", "form", "owner", "enabled", "next_at")
    list_select_related = ("owner",)
    readonly_fields = ("owner", "next_at")
    show_full_result_count = False
    actions = None

    def save_model(self, request: HttpRequest, obj: AuditReport, form: Any, change: bool) -> None:  # noqa: FBT001
        """Whoever makes it owns it: the export runs with that person's permission."""
        if not change:
            obj.owner_id = request.user.pk  # type: ignore[assignment]
        obj.next_at = reports.next_after(obj.period, timezone.now()) if obj.enabled else None
        super().save_model(request, obj, form, change)

    def has_view_permission(self, request: HttpRequest, obj: AuditReport | None = None) -> bool:
        return request.user.has_perm(jobs.PERMISSION)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(jobs.PERMISSION)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(jobs.PERMISSION)

    def has_change_permission(self, request: HttpRequest, obj: AuditReport | None = None) -> bool:
        return request.user.has_perm(jobs.PERMISSION) and (obj is None or obj.owner_id == request.user.pk)

    def has_delete_permission(self, request: HttpRequest, obj: AuditReport | None = None) -> bool:
        return False
