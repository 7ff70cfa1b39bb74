"""The queue and the decision page. GET shows, POST decides."""

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.safestring import SafeString
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from workflows import actions
from workflows.admin import changes as change_pages
from workflows.admin.base import badge, change_url, person
from workflows.admin.evidence import EvidenceAdmin
from workflows.domain.errors import StaleContent, WorkflowError
from workflows.domain.states import APPROVAL_CAME_TO_NOTHING, ApprovalState, Verdict
from workflows.models import ApprovalRequest, Message
from workflows.services import approvals, changes, snapshots

# As many as one page lists so that each can be read.
_TOGETHER = 50
# A text search reads each request that it looks through: all that may wait, and some of the past.
_LOOKED_THROUGH = 20_000

_OFFERS: Mapping[str, Mapping[str, Any]] = {
    "review": {
        "label": gettext_lazy("Close the review"),
        "help": gettext_lazy("This was carried out by one person without approval. Say what you found."),
    },
    "withdraw": {"label": gettext_lazy("Withdraw"), "help": gettext_lazy("Takes the request back; nothing is done.")},
    "again": {
        "label": gettext_lazy("Ask anew"),
        "help": gettext_lazy("A new request for the same, linked to this one. Say what has changed."),
    },
    "roll-back": {
        "label": gettext_lazy("Roll back"),
        "help": gettext_lazy("Asks to put everything back to what it was before. A second person decides on that too."),
    },
    "break-glass": {
        "label": gettext_lazy("Break the glass"),
        "help": gettext_lazy(
            "Carries it out at once, without approval. Every officer is alarmed, and another person has to review it."
        ),
        "danger": True,
    },
}


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


class ActionFilter(admin.SimpleListFilter):
    """The actions that there are. Django's own filter looks through all requests for those that occur."""

    title = gettext_lazy("action")
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(kind.kind, kind.label) for kind in actions.registry]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[ApprovalRequest]) -> Any:
        return queryset.filter(action=self.value()) if self.value() else queryset


@admin.register(ApprovalRequest)
class ApprovalRequestAdmin(EvidenceAdmin):
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
    list_filter = (QueueFilter, ActionFilter)
    list_select_related = ("requested_by",)
    search_fields = ("subject_label", "reason")
    search_help_text = format_lazy(
        gettext_lazy("Looks through the newest {count} of the chosen requests. The audit trail finds older ones."),
        count=f"{_LOOKED_THROUGH:,}",
    )
    actions = ("decide_together",)

    def get_urls(self) -> list[URLPattern]:
        def acts(route: str, act: Callable[..., HttpResponse], name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(require_POST(act)), name=name)

        own = [
            acts("<int:pk>/decide/", self.decide, "workflows_approvalrequest_decide"),
            acts("<int:pk>/do/<slug:verb>/", self.do, "workflows_approvalrequest_do"),
            acts("decide/", self.decide_all, "workflows_approvalrequest_decide_all"),
            acts("ask/", change_pages.ask, "workflows_change_ask"),
        ]
        return [*own, *super().get_urls()]

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[ApprovalRequest], search_term: str
    ) -> tuple[models.QuerySet[ApprovalRequest], bool]:
        if search_term:
            newest = queryset.order_by("-pk").values("pk")[:_LOOKED_THROUGH]
            queryset = self.get_queryset(request).filter(pk__in=newest)
        return super().get_search_results(request, queryset, search_term)

    def decide(self, request: HttpRequest, pk: int) -> HttpResponse:
        approval = self.find(request, pk)
        verdict = _verdict(request)
        if verdict is None:
            return HttpResponseBadRequest(_("Neither button was pressed."))
        self.carry_out(
            request,
            _("Approved.") if verdict == Verdict.APPROVE else _("Denied: nothing is done."),
            lambda: approvals.decide(
                approval_id=pk, verdict=verdict, by=person(request), reason=request.POST.get("reason", "")
            ),
        )
        return self.back(approval)

    def do(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        """What else can be done with a request; each by its own service, with a reason."""
        approval = self.find(request, pk)
        act: dict[str, Any] = {"by": person(request), "reason": request.POST.get("reason", "")}
        verbs: dict[str, tuple[Callable[[], object], str]] = {
            "withdraw": (lambda: approvals.withdraw(approval_id=pk, **act), _("Withdrawn: nothing is done.")),
            "again": (lambda: changes.again(approval_id=pk, **act), _("Asked anew.")),
            "break-glass": (
                lambda: approvals.break_glass(approval_id=pk, **act),
                _("Carried out without approval. Everybody who decides was told; another person has to review it."),
            ),
            "review": (lambda: approvals.review(approval_id=pk, **act), _("Reviewed.")),
            "roll-back": (
                lambda: snapshots.roll_back(snapshot_id=approval.snapshot.pk, **act),
                _("Asked for the rollback: nothing has changed yet. A second person decides now."),
            ),
        }
        if verb not in verbs or (verb == "roll-back" and not hasattr(approval, "snapshot")):
            raise Http404
        call, done = verbs[verb]
        self.carry_out(request, done, call)
        return self.back(approval)

    @admin.action(description=gettext_lazy("Decide on these together…"), permissions=["decide"])
    def decide_together(self, request: HttpRequest, queryset: models.QuerySet[ApprovalRequest]) -> HttpResponse | None:
        """A page that lists each of them; deciding is its own POST."""
        chosen = list(queryset.select_related("requested_by").order_by("pk")[: _TOGETHER + 1])
        if len(chosen) > _TOGETHER or len({approval.action for approval in chosen}) > 1:
            self.message_user(
                request,
                _("Choose at most %(most)s requests of one kind.") % {"most": _TOGETHER},
                level="ERROR",
            )
            return None
        rows = [
            {
                "approval": approval,
                "url": change_url(approval),
                "reach": self.reach(approval),
                "barred": approvals.why_barred(approval, person(request)),
            }
            for approval in chosen
        ]
        return self.render_page(
            request,
            "admin/workflows/approvalrequest/together.html",
            title=_("Decide on these together"),
            rows=rows,
            action_label=self.action_label(chosen[0]) if chosen else "",
        )

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("workflows.decide_approvalrequest")

    def decide_all(self, request: HttpRequest) -> HttpResponse:
        """Each of them by itself, with its own checks; one that is refused does not stop the others."""
        verdict, done = _verdict(request), 0
        if verdict is None:
            return HttpResponseBadRequest(_("Neither button was pressed."))
        chosen = [int(key) for key in request.POST.getlist("request") if key.isdecimal()][:_TOGETHER]
        for pk in chosen:
            approval = self.find(request, pk)
            try:
                approvals.decide(
                    approval_id=pk, verdict=verdict, by=person(request), reason=request.POST.get("reason", "")
                )
            except WorkflowError as error:
                self.message_user(request, f"{approval}: {error}", level="ERROR")
            else:
                done += 1
        told = {"done": done, "all": len(chosen)}
        self.message_user(request, _("%(done)s of %(all)s decided.") % told)
        return HttpResponseRedirect(reverse("admin:workflows_approvalrequest_changelist"))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        approval, user = self.find(request, object_id), person(request)
        approvals.view(approval=approval, by=user)
        pending = approval.state == ApprovalState.PENDING and approval.expires_at > timezone.now()
        barred = approvals.why_barred(approval, user)
        if pending and not approvals.is_what_was_asked(approval):
            barred = StaleContent(_("The stored preview is not what was asked for. Tell your administrator."))
        return self.render_page(
            request,
            self.change_form_template,
            title=_("Decide on this request") if pending and not barred else _("Approval request"),
            approval=approval,
            badge=self.state_badge(approval),
            action_label=self.action_label(approval),
            reach=self.reach(approval),
            preview=approval.preview,
            is_send=approval.action == "mass_send",
            send_at=parse_datetime(approval.preview.get("send_at") or ""),
            valid_until=parse_datetime(approval.preview.get("valid_until") or ""),
            decisions=approval.decisions.select_related("decided_by"),
            groups=approvals.deciding_groups(approval),
            following=approval.following.order_by("pk"),
            pending=pending,
            barred=barred,
            offers=_offers(approval, user, pending=pending),
            message_url=_subject_url(approval),
        )

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def state_badge(self, obj: ApprovalRequest) -> SafeString:
        return badge(obj.state, obj.get_state_display())

    @admin.display(description=gettext_lazy("action"), ordering="action")
    def action_label(self, obj: ApprovalRequest) -> str:
        return str(actions.registry.get(obj.action).label)

    @admin.display(description=gettext_lazy("reach"), ordering="size")
    def reach(self, obj: ApprovalRequest) -> str:
        return actions.registry.get(obj.action).in_words(obj.size)


def _verdict(request: HttpRequest) -> Verdict | None:
    """Which button was pressed."""
    for verdict in (Verdict.DENY, Verdict.APPROVE):
        if verdict.value in request.POST:
            return verdict
    return None


def _offers(approval: ApprovalRequest, user: User, *, pending: bool) -> list[dict[str, Any]]:
    """What this person can do with the request beside deciding: {verb, label, help, danger}."""
    state, asked = approval.state, user.pk == approval.requested_by_id
    came_to_nothing = state in APPROVAL_CAME_TO_NOTHING
    own = {approval.break_glass_by_id, approval.requested_by_id, approval.authored_by_id, *approval.barred}
    unreviewed = approval.break_glass_by_id is not None and approval.reviewed_at is None
    offered = {
        "review": unreviewed and user.pk not in own and user.has_perm("workflows.decide_approvalrequest"),
        "withdraw": (pending or state == ApprovalState.APPROVED) and approvals.may_withdraw(approval, user),
        "again": came_to_nothing and asked and bool(approval.payload),
        "roll-back": state == ApprovalState.EXECUTED
        and hasattr(approval, "snapshot")
        and snapshots.may_roll_back(approval, user),
        "break-glass": pending and user.has_perm("workflows.break_glass"),
    }
    return [{"verb": verb, **_OFFERS[verb]} for verb, is_open in offered.items() if is_open]


def _subject_url(approval: ApprovalRequest) -> str | None:
    if approval.subject_type != Message._meta.label_lower:
        return None
    message = Message.objects.filter(pk=approval.subject_id).first()
    return change_url(message) if message else None
