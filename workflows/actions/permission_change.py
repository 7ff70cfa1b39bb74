"""Who may do what: rights, roles, accounts, another person's password, and who somebody in WeCom is."""

from django.utils.translation import gettext_lazy as _

from workflows.actions import ChangeAction, register
from workflows.domain.changes import Change, ChangeSet

_RIGHTS = frozenset({"is_superuser", "is_staff", "is_active", "groups", "user_permissions"})
# What a new account has that may not do anything yet.
_HARMLESS = {"is_superuser": False, "is_staff": False, "is_active": True, "groups": [], "user_permissions": []}


@register
class PermissionChange(ChangeAction):
    kind = "permission_change"
    label = _("Permission change")
    rank = 2

    def concerns(self, changes: ChangeSet) -> bool:
        return any(
            _of_account(change, changes.by) or _of_group(change) or change.model == "workflows.wecomaccount"
            for change in changes.changes
        )


def _of_account(change: Change, by: int | None) -> bool:
    if change.model != "auth.user":
        return False
    if change.before is None:
        return any(change.becomes(name) != value for name, value in _HARMLESS.items())
    if change.after is None or not _RIGHTS.isdisjoint(change.fields):
        return True
    return "password" in change.fields and bool(change.was("is_staff")) and change.key != by


def _of_group(change: Change) -> bool:
    """A group of nobody with no rights is harmless, and so is another name; roles are known by theirs, though."""
    if change.model != "auth.group":
        return False
    return (change.before is None and bool(change.becomes("permissions"))) or change.before is not None
