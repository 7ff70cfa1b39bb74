"""The admin site: the house's front room."""

from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _


class ComplianceAdminSite(AdminSite):
    site_header = _("Compliance Bot")
    site_title = _("Compliance Bot")
    index_title = _("Today")
    site_url = None
    index_template = "admin/home.html"

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {
            **super().each_context(request),
            "sandbox": settings.SANDBOX,
            "sandbox_url": settings.SANDBOX_URL,
        }

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        from workflows.admin import home  # the site is made before the apps that fill it

        return super().index(request, {**(extra_context or {}), **home.overview(request.user)})
