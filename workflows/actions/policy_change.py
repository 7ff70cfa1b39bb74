"""Setting a key of the security policy, or acknowledging a policy file that relaxes one."""

from django.utils.translation import gettext_lazy as _

from workflows.actions import ChangeAction, register
from workflows.domain.changes import ChangeSet


@register
class PolicyChange(ChangeAction):
    kind = "policy_change"
    label = _("Policy change")
    rank = 1

    def concerns(self, changes: ChangeSet) -> bool:
        return any(change.model in {"workflows.policyoverride", "workflows.policyfile"} for change in changes.changes)
