from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class WorkflowsConfig(AppConfig):
    name = "workflows"
    verbose_name = _("Workflows")

    def ready(self) -> None:
        from audit import vocabulary
        from workflows import checks, roles, schedules, tracking, triggers  # noqa: F401 - importing checks, tracking registers
        from workflows.domain.events import DECISIONS, Event
        from workflows.services import completeness, exports, imports, messages, notices, policies  # noqa: F401 - they register themselves

        vocabulary.declare(Event, urgent=DECISIONS, classes={vocabulary.DECISION: DECISIONS})
        notices.register()
        exports.register()
        policies.register()
        triggers.GUARDS.watch(self)
        post_migrate.connect(roles.create_missing, sender=self)
        post_migrate.connect(schedules.sync, sender=self)
