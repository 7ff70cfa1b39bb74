"""Standing approvals: asked for from a workflow's page, decided like every request, revoked here."""

from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AdminTextareaWidget
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext
from django.views.decorators.http import require_POST

from workflows.admin.base import HouseAdmin, ReadOnlyAdmin, badge, change_url, person
from workflows.models import ApprovalRequest, StandingApproval, Workflow
from workflows.services import configuration, standing

_SHOWN = 50


class AskForm(forms.Form):
    last_day = forms.DateField(
        label=gettext_lazy("Last day"),
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        help_text=gettext_lazy("In the workflow's time zone; at most 92 days from now."),
    )
    messages_per_day = forms.IntegerField(
        label=gettext_lazy("Messages a day, at most"), min_value=1, max_value=standing.MOST_A_DAY, initial=8
    )
    reason = forms.CharField(
        label=gettext_lazy("Why need these messages no decision each?"),
        max_length=500,
        widget=AdminTextareaWidget(attrs={"rows": 2}),
    )


@admin.register(StandingApproval)
class StandingApprovalAdmin(ReadOnlyAdmin[StandingApproval]):
    list_display = ("workflow", "state_badge", "messages_per_day", "valid_until", "asked_by", "granted_at", "ended_why")
    list_select_related = ("workflow", "asked_by")
    search_fields = ("workflow__name", "reason")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("ask/<int:workflow_id>/", view(self.ask), name="workflows_standingapproval_ask"),
            path("<int:pk>/revoke/", view(require_POST(self.revoke)), name="workflows_standingapproval_revoke"),
            *super().get_urls(),
        ]

    def ask(self, request: HttpRequest, workflow_id: int) -> HttpResponse:
        """GET shows what would be covered and asks for the bounds, POST asks a second person."""
        if not request.user.has_perm("workflows.add_standingapproval"):
            raise PermissionDenied
        page = self.admin_site.get_model_admin(Workflow)
        assert isinstance(page, HouseAdmin)  # noqa: S101 - the pages of the loop all are
        workflow: Workflow = page.find(request, workflow_id)
        in_a_month = timezone.now().astimezone(workflow.zone).date() + timedelta(days=30)
        form = AskForm(request.POST or None, initial={"last_day": in_a_month})
        if request.method == "POST" and form.is_valid():
            asked = self.carry_out(
                request,
                _("Asked: a second person decides now. Until then each message is approved by itself."),
                lambda: standing.ask(workflow=workflow, by=person(request), **_bounds(form, workflow)),
            )
            if asked:
                return page.back(workflow)
        return self.render_page(
            request,
            "admin/workflows/standingapproval/ask.html",
            title=_("Ask for a standing approval"),
            workflow=workflow,
            workflow_url=change_url(workflow),
            form=form,
            content=configuration.content(workflow),
        )

    def revoke(self, request: HttpRequest, pk: int) -> HttpResponse:
        found = self.find(request, pk)
        self.carry_out(
            request,
            _("Revoked: each message is approved by itself again, and what has not left is not sent."),
            lambda: standing.revoke(standing_id=pk, by=person(request), reason=request.POST.get("reason", "")),
        )
        return self.back(found)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        found, now = self.find(request, object_id), timezone.now()
        in_force = StandingApproval.objects.in_force(now).filter(pk=found.pk).exists()
        asked = ApprovalRequest.objects.filter(
            subject_type=StandingApproval._meta.label_lower, subject_id=str(found.pk)
        ).first()
        return self.render_page(
            request,
            "admin/workflows/standingapproval/change_form.html",
            title=self.opts.verbose_name,
            standing=found,
            badge=self.state_badge(found),
            in_force=in_force,
            has_changed=in_force and configuration.digest(found.workflow) != found.configuration_digest,
            used_today=standing.used_today(found, now),
            workflow_url=change_url(found.workflow),
            request_url=asked and change_url(asked),
            released=found.messages.order_by("-released_at")[:_SHOWN],
            released_count=found.messages.count(),
        )

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, obj: StandingApproval) -> SafeString:
        if obj.ended_at is not None:
            return badge("ended", pgettext("standing approval", "ended"))
        if obj.valid_until <= timezone.now():
            return badge("ended", pgettext("standing approval", "period over"))
        if obj.granted_at is None:
            return badge("pending", pgettext("standing approval", "waits for a decision"))
        return badge("active", pgettext("standing approval", "in force"))


def _bounds(form: AskForm, workflow: Workflow) -> dict[str, Any]:
    """As the service takes them: the last day counts to its end."""
    day_after = form.cleaned_data["last_day"] + timedelta(days=1)
    return {
        "until": datetime.combine(day_after, time.min, workflow.zone),
        "messages_per_day": form.cleaned_data["messages_per_day"],
        "reason": form.cleaned_data["reason"],
    }
