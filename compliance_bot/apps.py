"""How Django finds the project itself and its admin site."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class AdminConfig(DjangoAdminConfig):
    default_site = "compliance_bot.site.ComplianceAdminSite"


class ComplianceBotConfig(AppConfig):
    name = "compliance_bot"
    verbose_name = "Compliance Bot"

    def ready(self) -> None:
        from compliance_bot import checks  # noqa: F401 - importing registers the checks
        from compliance_bot.guardrails import redaction

        redaction.install()
