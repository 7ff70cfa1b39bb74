"""Legal holds: place one, see what it covers, release it by two persons. GET shows, POST acts; nothing is edited."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from audit import holds
from audit.models import AuditHold
from compliance_bot.guardrails.paging import COUNT_LIMIT, BoundedPaginator, CalmList

_STATES = {
    "active": gettext_lazy("In force"),
    "pending": gettext_lazy("Release asked for"),
    "cancelled": gettext_lazy("Released"),
}


def _state(hold: AuditHold) -> str:
    if hold.released_at is not None:
        return "cancelled"
    return "pending" if hold.release_asked_by else "active"


class HoldForm(forms.ModelForm[AuditHold]):
    # A kind with a typing slip would hold nothing, and nobody would notice.
    target_type = forms.ChoiceField(label=gettext_lazy("Kind of object"), required=False)

    class Meta:
        model = AuditHold
        fields = ("reason", "owner", "who", "target_type", "target_id", "request_id", "starts_at", "ends_at")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        kinds = [(model._meta.label_lower, model._meta.verbose_name) for model in apps.get_models()]
        shown = sorted((f"{str(name).capitalize()} ({kind})", kind) for kind, name in kinds)
        field = self.fields["target_type"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 - declared above
        field.choices = [("", "–"), *((kind, name) for name, kind in shown)]

    def clean(self) -> dict[str, Any]:
        told: dict[str, Any] = super().clean() or {}
        if not self.errors:
            try:
                holds.check(AuditHold(**told))
            except holds.HoldRefused as error:
                self.add_error(error.field, str(error))
        return told


class StateFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, str(label)) for state, label in _STATES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditHold]) -> QuerySet[AuditHold]:
        match self.value():
            case "active":
                return queryset.filter(released_at=None, release_asked_by="")
            case "pending":
                return queryset.filter(released_at=None).exclude(release_asked_by="")
            case "cancelled":
                return queryset.exclude(released_at=None)
        return queryset


@admin.register(AuditHold)
class AuditHoldAdmin(CalmList, admin.ModelAdmin[AuditHold]):
    form = HoldForm
    list_display = ("reason", "state_badge", "covers", "events", "owner", "placed_by", "placed_at")
    list_filter = (StateFilter,)
    search_fields = ("reason", "owner", "who", "target_id")
    show_full_result_count = False
    paginator = BoundedPaginator
    # Each row counts its events.
    list_per_page = 20
    actions = None
    fieldsets = (
        (None, {"fields": ("reason", "owner")}),
        (
            gettext_lazy("What it covers"),
            {
                "fields": ("who", "target_type", "target_id", "request_id", "starts_at", "ends_at"),
                "description": gettext_lazy(
                    "Name at least one. Events that match all that is named are not purged while the hold is in force."
                ),
            },
        ),
    )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<int:pk>/ask/", view(require_POST(self.ask)), name="audit_audithold_ask"),
            path("<int:pk>/confirm/", view(require_POST(self.confirm)), name="audit_audithold_confirm"),
            *super().get_urls(),
        ]

    def ask(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The first of two persons."""
        reason = request.POST.get("reason", "")
        return self._act(
            request, pk, _("Asked. Another person has to confirm."), lambda by: holds.ask_release(pk, by, reason)
        )

    def confirm(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The second of two persons."""
        return self._act(request, pk, _("Released."), lambda by: holds.confirm_release(pk, by))

    def _act(self, request: HttpRequest, pk: int, done: str, call: Callable[[User], object]) -> HttpResponse:
        hold = self._find(request, str(pk))
        try:
            call(_person(request))
        except holds.HoldRefused as error:
            messages.error(request, str(error))
        else:
            messages.success(request, done)
        return HttpResponseRedirect(reverse("admin:audit_audithold_change", args=[hold.pk]))

    def _find(self, request: HttpRequest, pk: str) -> AuditHold:
        hold = self.get_object(request, pk)
        if hold is None or not self.has_view_permission(request, hold):
            raise Http404
        return hold

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        hold, by = self._find(request, object_id), _person(request)
        facts = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": self.opts.verbose_name,
            "hold": hold,
            "badge": self.state_badge(hold),
            "events": self.events(hold),
            "may_release": by.has_perm(holds.RELEASE),
            "asked_it": hold.release_asked_by_pk == by.pk,
        }
        return TemplateResponse(request, "admin/audit/hold.html", facts)

    def save_model(self, request: HttpRequest, obj: AuditHold, form: Any, change: bool) -> None:  # noqa: FBT001
        holds.place(obj, _person(request))

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponseRedirect:
        """Its history is its part of the trail."""
        hold = self._find(request, object_id)
        query = f"?object={hold._meta.label_lower}:{hold.pk}"
        return HttpResponseRedirect(reverse("admin:audit_auditevent_changelist") + query)

    def has_change_permission(self, request: HttpRequest, obj: AuditHold | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditHold | None = None) -> bool:
        return False

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, obj: AuditHold) -> SafeString:
        return format_html('<span class="badge badge-{}">{}</span>', _state(obj), _STATES[_state(obj)])

    @admin.display(description=gettext_lazy("what it covers"))
    def covers(self, obj: AuditHold) -> str:
        return " · ".join(holds.criteria(obj).values())

    @admin.display(description=gettext_lazy("events"))
    def events(self, obj: AuditHold) -> str:
        count = holds.covered(obj).order_by()[: COUNT_LIMIT + 1].count()
        return f"{COUNT_LIMIT:,}+" if count > COUNT_LIMIT else f"{count:,}"


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101 - admin_view guards every page
    return request.user
