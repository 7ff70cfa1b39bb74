"""The admin site: the house's front room."""

from django.contrib.admin import AdminSite


class ComplianceAdminSite(AdminSite):
    pass
