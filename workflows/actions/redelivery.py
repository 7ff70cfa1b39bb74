"""Sending again what did not arrive, or may not have: to the recipients that are named, in the same words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from workflows.actions import Action, register
from workflows.domain.canonical import digest_of_all

# So many are listed for the officer to read; the digest binds to all of them.
_LISTED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivery:
    """``deliveries``: each with its recipient, channel, address, part, state and why."""

    message: int
    subject: str
    texts: Sequence[str]
    deliveries: Sequence[Mapping[str, Any]]


@register
class RedeliveryAction(Action[Redelivery]):
    kind = "redelivery"
    label = _("Sending again")

    def preview(self, subject: Redelivery) -> dict[str, Any]:
        return {
            "message": subject.message,
            "subject": subject.subject,
            "texts": list(subject.texts),
            "count": len(subject.deliveries),
            "deliveries": list(subject.deliveries[:_LISTED]),
            "deliveries_sha256": digest_of_all(subject.deliveries),
        }
