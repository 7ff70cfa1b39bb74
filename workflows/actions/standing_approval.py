"""Approving what a recurring workflow sends once, for a period and within bounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import gettext_lazy as _

from workflows.actions import Action, register


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What would leave without a further decision: whatever this very configuration makes, within these bounds."""

    messages_per_day: int
    valid_until: datetime
    time_zone: str
    """Whose days are counted."""
    people: int | None
    configuration: Mapping[str, Any]


@register
class StandingApprovalAction(Action[Standing]):
    kind = "standing_approval"
    label = _("Standing approval")

    def preview(self, subject: Standing) -> dict[str, Any]:
        return {
            "messages_per_day": subject.messages_per_day,
            "valid_until": subject.valid_until.astimezone(UTC).isoformat(),
            "time_zone": subject.time_zone,
            "people": subject.people,
            "configuration": dict(subject.configuration),
        }
