"""The admin site: the house's front room."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from audit import access

# The rooms in the order of a working day, whichever app they live in; a room not named here comes last.
_ROOMS = (
    (_("Decide"), ("ApprovalRequest", "Message", "StandingApproval")),
    (_("Watch"), ("Workflow", "Run", "Digest", "Delivery", "DeadLetter", "InboundEvent", "Item", "SendingPause")),
    (
        _("Set up"),
        (
            *("Source", "Channel", "Audience", "AudienceMember", "Suppression", "MessageTemplate", "CallbackApp"),
            *("SecretRef", "PolicyOverride"),
        ),
    ),
    (_("Oversee"), ("AuditEvent", "AuditExport", "AuditReport", "AuditHold", "AuditPurgeGrant", "AuditSeal")),
    (_("People"), ("User", "Group", "WeComAccount")),
)


_SHOWN = {"workflows", "audit", "auth"}


class ComplianceAdminSite(AdminSite):
    site_header = _("Compliance Bot")
    site_title = _("Compliance Bot")
    index_title = _("Today")
    site_url = None
    index_template = "admin/home.html"

    def register(self, model_or_iterable: Any, *args: Any, **kwargs: Any) -> None:
        """Other packages' pages stay out: django-q2's can run any function, django-auditlog's shows no table."""
        models: list[Any] = [model_or_iterable] if isinstance(model_or_iterable, type) else list(model_or_iterable)
        if ours := [model for model in models if model._meta.app_label in _SHOWN and model._meta.managed]:
            super().register(ours, *args, **kwargs)

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:  # noqa: FBT001, FBT002
        """The entrance of every page. None writes what needs a second person (workflows.admin.changes).

        Django sends whoever is no staff to the sign-in; for somebody who is signed in that is a denied page.
        """
        from workflows.admin.changes import under_approval  # the site is made before the apps that fill it

        guarded = super().admin_view(under_approval(view), cacheable)

        def watched(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if request.user.is_authenticated and not self.has_permission(request):
                access.denied(request)
            return guarded(request, *args, **kwargs)

        return update_wrapper(watched, guarded)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        from workflows.services import pauses  # the site is made before the apps that fill it

        return {
            **super().each_context(request),
            "all_paused": pauses.of(None) if self.has_permission(request) else None,
            "sandbox": settings.SANDBOX,
            "sandbox_url": settings.SANDBOX_URL,
        }

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        apps = super().get_app_list(request, app_label)
        if app_label is not None:
            return apps
        rooms = {model["object_name"]: model for app in apps for model in app["models"]}
        groups = [
            {"name": name, "app_label": "", "app_url": "", "models": [rooms.pop(key) for key in keys if key in rooms]}
            for name, keys in _ROOMS
        ]
        groups.append({"name": _("More"), "app_label": "", "app_url": "", "models": list(rooms.values())})
        return [group for group in groups if group["models"]]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        from workflows.admin import home  # the site is made before the apps that fill it

        return super().index(request, {**(extra_context or {}), **home.overview(request.user)})
