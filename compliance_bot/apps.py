"""How Django finds the project itself and its admin site."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class AdminConfig(DjangoAdminConfig):
    default_site = "compliance_bot.site.ComplianceAdminSite"


class ComplianceBotConfig(AppConfig):
    name = "compliance_bot"
    verbose_name = "Compliance Bot"
