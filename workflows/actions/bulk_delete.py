"""Deleting many objects at once, or one on which many hang."""

from django.utils.translation import gettext_lazy as _

from workflows.actions import ChangeAction, register
from workflows.domain.changes import ChangeSet


@register
class BulkDelete(ChangeAction):
    kind = "bulk_delete"
    label = _("Bulk delete")
    rank = 4

    def concerns(self, changes: ChangeSet) -> bool:
        """Any deletion; from how many on it needs approval is the policy's threshold."""
        return bool(changes.removed)
