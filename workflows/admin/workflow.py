from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from workflows.admin import version
from workflows.admin.base import ConfigurationAdmin, badge, person
from workflows.domain.errors import WorkflowError
from workflows.domain.states import WorkflowState
from workflows.models import Cadence, DigestFeed, Workflow
from workflows.models.workflow import DigestKind
from workflows.services import feeds, pauses, runs, schedule, standing

OCCURRENCES_SHOWN = 10


class CadenceInline(admin.StackedInline[Cadence, Workflow]):
    model = Cadence
    extra = 0
    fields = (
        ("digest_kind", "pattern", "days", "enabled"),
        ("every_minutes", "window_start", "window_end", "at"),
    )


@admin.register(Workflow)
class WorkflowAdmin(ConfigurationAdmin[Workflow]):
    change_form_template = "admin/workflows/workflow/change_form.html"
    change_list_template = "admin/workflows/workflow/change_list.html"
    inlines = (CadenceInline,)
    list_display = ("name", "state_badge", "goal", "owner", "audience")
    list_filter = ("state",)
    list_select_related = ("owner", "audience")
    search_fields = ("name", "goal")
    filter_horizontal = ("sources",)
    readonly_fields = ("state_badge",)
    fieldsets = (
        (None, {"fields": ("name", "state_badge", "goal", "contract", "owner")}),
        (
            gettext_lazy("What it reads, what it sends"),
            {"fields": ("sources", "audience", "template", "language", "max_entries", "max_age_days", "time_zone")},
        ),
    )

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "goal":
            kwargs["widget"] = AdminTextInputWidget(attrs={"class": "vLargeTextField"})
        if db_field.name == "contract":
            kwargs["widget"] = forms.Textarea(attrs={"rows": 6, "class": "vLargeTextField"})
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"owner": request.user.pk}

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if context.get("original") is not None:
            context["pause"] = pauses.of(context["original"])
            context["feed"] = DigestFeed.objects.filter(workflow=context["original"]).first()
            context["standing"] = standing.open_of(context["original"])
        return super().render_change_form(request, context, *args, **kwargs)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("schedule/", view(self.schedule), name="workflows_schedule"),
            path("<int:pk>/feed/", view(require_POST(self.feed)), name="workflows_workflow_feed"),
            path("<int:pk>/versions/", view(self.versions), name="workflows_workflow_versions"),
            path("<int:pk>/do/<slug:verb>/", view(require_POST(self.do)), name="workflows_workflow_do"),
            *super().get_urls(),
        ]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001
        super().save_related(request, form, formsets, change)
        schedule.plan(form.instance)

    def do(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        workflow = self.find(request, pk)
        why, by = request.POST.get("reason", ""), person(request)
        started = _("The run has started; its digest appears under Approval requests.")
        verbs: dict[str, tuple[Callable[[], object], str]] = {
            "activate": (
                lambda: schedule.activate(workflow=workflow, by=by, reason=why),
                _("The workflow is active."),
            ),
            "pause": (
                lambda: schedule.pause(workflow=workflow, by=by, reason=why),
                _("The workflow is paused."),
            ),
            "update": (
                lambda: runs.run_now(workflow=workflow, by=by, digest_kind=DigestKind.UPDATE),
                started,
            ),
            "summarise": (
                lambda: runs.run_now(workflow=workflow, by=by, digest_kind=DigestKind.SUMMARY),
                started,
            ),
        }
        if verb not in verbs:
            raise Http404
        call, done = verbs[verb]
        self.carry_out(request, done, call)
        return self.back(workflow)

    def feed(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Open or close the feed of digests. Its token is shown this once."""
        workflow, by = self.find(request, pk), person(request)
        if "open" not in request.POST:
            self.carry_out(request, _("The feed is closed."), lambda: feeds.close_feed(workflow=workflow, by=by))
            return self.back(workflow)
        try:
            token = feeds.open_feed(workflow=workflow, by=by)
        except WorkflowError as error:
            self.message_user(request, str(error), level="ERROR")
        else:
            where = request.build_absolute_uri(f"/feeds/workflows/{pk}/digests.atom?token={token}")
            self.message_user(request, _("The feed is open. This address is shown once: %(url)s") % {"url": where})
        return self.back(workflow)

    def schedule(self, request: HttpRequest) -> HttpResponse:
        """The next occurrences over all active workflows, or of one (?workflow=)."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        cadences = Cadence.objects.filter(enabled=True).select_related("workflow")
        chosen = request.GET.get("workflow", "")
        workflow = self.find(request, chosen) if chosen else None
        if workflow is not None:
            cadences = cadences.filter(workflow=workflow)
        else:
            cadences = cadences.filter(workflow__state=WorkflowState.ACTIVE)
        upcoming = schedule.upcoming(list(cadences[:500]), timezone.now(), OCCURRENCES_SHOWN)
        rows = [
            {"at": instant, "local": instant.astimezone(cadence.workflow.zone), "cadence": cadence}
            for instant, cadence in upcoming
        ]
        return self.render_page(
            request,
            "admin/workflows/schedule.html",
            title=_("Next occurrences"),
            rows=rows,
            workflow=workflow,
        )

    def versions(self, request: HttpRequest, pk: int) -> HttpResponse:
        return version.history(self, request, self.find(request, pk))

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def state_badge(self, obj: Workflow) -> SafeString:
        return badge(obj.state, obj.get_state_display())
