from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class WorkflowsConfig(AppConfig):
    name = "workflows"
    verbose_name = _("Workflows")

    def ready(self) -> None:
        from audit import vocabulary
        from workflows import checks, roles, schedules, tracking  # noqa: F401 - importing registers checks and diffs
        from workflows.domain.events import Event
        from workflows.services import messages  # noqa: F401 - declares how a mass send is carried out

        vocabulary.declare(Event)
        post_migrate.connect(_install_triggers, sender=self)
        post_migrate.connect(roles.create_missing, sender=self)
        post_migrate.connect(schedules.sync, sender=self)


def _install_triggers(using: str, **kwargs: Any) -> None:
    from workflows import triggers

    triggers.install(connections[using])
