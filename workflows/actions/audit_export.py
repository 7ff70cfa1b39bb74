"""Taking many audit events out of the house."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from workflows.actions import Action, register


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeExport:
    """``rows``: None when there are more than anybody counts."""

    query: str
    form: str
    columns: Sequence[str]
    rows: int | None
    owner: str


@register
class AuditExportAction(Action[LargeExport]):
    kind = "audit_export"
    label = _("Export of the audit trail")
    reach = ngettext_lazy("%(n)s event", "%(n)s events", "n")

    def preview(self, subject: LargeExport) -> dict[str, Any]:
        return {
            "owner": subject.owner,
            "query": subject.query,
            "form": subject.form,
            "columns": list(subject.columns),
            "rows": subject.rows,
        }
