"""The queue and the decision page. GET shows, POST decides."""

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from workflows import actions
from workflows.admin.base import ReadOnlyAdmin, badge, change_url, person
from workflows.domain.errors import StaleContent
from workflows.domain.states import ApprovalState, Verdict
from workflows.models import ApprovalRequest, Message
from workflows.services import approvals


class QueueFilter(admin.SimpleListFilter):
    """The queue first: what is pending is what the page is for."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("all", _("All")), *ApprovalState.choices]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[ApprovalRequest]) -> Any:
        value = self.value()
        if value is None:
            return queryset.filter(state=ApprovalState.PENDING)
        return queryset if value == "all" else queryset.filter(state=value)

    def choices(self, changelist: Any) -> Any:
        pending = {
            "selected": self.value() is None,
            "query_string": changelist.get_query_string(remove=[self.parameter_name]),
            "display": _("Waiting"),
        }
        rest = list(super().choices(changelist))[1:]
        return [pending, *(choice for choice in rest if choice["display"] != ApprovalState.PENDING.label)]


@admin.register(ApprovalRequest)
class ApprovalRequestAdmin(ReadOnlyAdmin[ApprovalRequest]):
    change_form_template = "admin/workflows/approvalrequest/decide.html"
    list_display = (
        "subject_label",
        "action_label",
        "state_badge",
        "reach",
        "requested_by",
        "requested_at",
        "expires_at",
    )
    list_filter = (QueueFilter, "action")
    list_select_related = ("requested_by",)
    search_fields = ("subject_label", "reason")

    def get_urls(self) -> list[URLPattern]:
        decide = path(
            "<int:pk>/decide/",
            self.admin_site.admin_view(require_POST(self.decide)),
            name="workflows_approvalrequest_decide",
        )
        return [decide, *super().get_urls()]

    def decide(self, request: HttpRequest, pk: int) -> HttpResponse:
        approval = self.find(request, pk)
        if "approve" not in request.POST and "deny" not in request.POST:
            return HttpResponseBadRequest(_("Neither button was pressed."))
        verdict = Verdict.DENY if "deny" in request.POST else Verdict.APPROVE
        self.carry_out(
            request,
            _("Approved: it is on its way.") if verdict == Verdict.APPROVE else _("Denied: nothing is sent."),
            lambda: approvals.decide(
                approval_id=pk, verdict=verdict, by=person(request), reason=request.POST.get("reason", "")
            ),
        )
        return self.back(approval)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        approval = self.find(request, object_id)
        pending = approval.state == ApprovalState.PENDING and approval.expires_at > timezone.now()
        approvals.view(approval=approval, by=person(request))
        barred = approvals.why_barred(approval, person(request))
        if pending and not approvals.is_what_was_asked(approval):
            barred = StaleContent(_("The stored preview is not what was asked for. Tell your administrator."))
        return self.render_page(
            request,
            self.change_form_template,
            title=_("Decide on this request") if pending and not barred else _("Approval request"),
            approval=approval,
            badge=self.state_badge(approval),
            action_label=self.action_label(approval),
            preview=approval.preview,
            send_at=parse_datetime(approval.preview["send_at"] or ""),
            texts=[text for texts in approval.preview["parts"].values() for text in texts],
            decisions=approval.decisions.select_related("decided_by"),
            pending=pending,
            barred=barred,
            message_url=_subject_url(approval),
        )

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def state_badge(self, obj: ApprovalRequest) -> SafeString:
        return badge(obj.state, obj.get_state_display())

    @admin.display(description=gettext_lazy("action"), ordering="action")
    def action_label(self, obj: ApprovalRequest) -> str:
        return str(actions.registry.get(obj.action).label)

    @admin.display(description=gettext_lazy("people"), ordering="size")
    def reach(self, obj: ApprovalRequest) -> str:
        return _("unknown") if obj.size is None else str(obj.size)


def _subject_url(approval: ApprovalRequest) -> str | None:
    message = Message.objects.filter(pk=approval.subject_id).first()
    return change_url(message) if message else None
