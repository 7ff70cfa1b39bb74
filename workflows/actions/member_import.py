"""Importing a file of members into an audience that an active workflow speaks to, or removing many at once by one."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from workflows.actions import Action, register


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """``first`` is listed for the officer to read; ``plan_sha256`` binds to every row that would be written.

    ``workflows``: those in service that speak to the audience.
    """

    audience: str
    workflows: Sequence[str]
    file: str
    sha256: str
    mode: str
    added: int
    changed: int
    removed: int
    unchanged: int
    first: Sequence[Mapping[str, Any]]
    plan_sha256: str


@register
class MemberImportAction(Action[Import]):
    kind = "member_import"
    label = _("Import of members")
    reach = ngettext_lazy("%(n)s member", "%(n)s members", "n")

    def preview(self, subject: Import) -> dict[str, Any]:
        return {**asdict(subject), "workflows": list(subject.workflows), "first": list(subject.first)}
