"""Putting a workflow into service, and changing one that is: its sources, audience, channels, rhythm, words."""

from django.utils.translation import gettext_lazy as _

from workflows.actions import ChangeAction, register
from workflows.domain.changes import ChangeSet


@register
class WorkflowChange(ChangeAction):
    kind = "workflow_change"
    label = _("Workflow change")
    rank = 3

    def concerns(self, changes: ChangeSet) -> bool:
        return any(
            change.in_service or (change.model == "workflows.workflow" and change.becomes("state") == "active")
            for change in changes.changes
        )
