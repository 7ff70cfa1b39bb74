from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AuditConfig(AppConfig):
    name = "audit"
    verbose_name = _("Audit trail")

    def ready(self) -> None:
        from audit import access, diffs, passwords, retention, self_checks, triggers  # noqa: F401 - importing connects

        triggers.GUARDS.watch(self)
        diffs.track(self.get_model("AuditReport"), exclude=["next_at"])
