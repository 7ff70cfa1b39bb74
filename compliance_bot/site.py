"""The admin site: the house's front room."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.db import transaction
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from audit import access

# The rooms in the order of a working day, whichever app they live in; a room not named here comes last.
_ROOMS = (
    (_("Decide"), ("ApprovalRequest", "Message")),
    (_("Watch"), ("Workflow", "Run", "Digest", "Delivery", "Item")),
    (_("Set up"), ("Source", "Channel", "Audience", "SecretRef")),
    (_("Oversee"), ("AuditEvent", "AuditExport", "AuditReport", "AuditHold", "AuditPurgeGrant", "AuditSeal")),
    (_("People"), ("User", "Group")),
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
        """Django sends whoever is no staff to the sign-in; for somebody who is signed in that is a denied page."""
        guarded = super().admin_view(view, cacheable)

        def watched(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if request.user.is_authenticated and not self.has_permission(request):
                access.denied(request)
            return guarded(request, *args, **kwargs)

        return update_wrapper(watched, guarded)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The new password and its event are kept together, or neither is."""
        with transaction.atomic():
            return super().password_change(request, extra_context)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {
            **super().each_context(request),
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
