"""Putting objects back to what they were before a request was carried out."""

from django.utils.translation import gettext_lazy as _

from workflows.actions import ChangeAction, register
from workflows.domain.changes import ChangeSet


@register
class Rollback(ChangeAction):
    kind = "rollback"
    label = _("Rollback")
    rank = 0

    def concerns(self, changes: ChangeSet) -> bool:
        """Only when asked for as such."""
        return any(change.restores for change in changes.changes)
