"""Sending one message to many people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import gettext_lazy as _

from workflows.actions import Action, register
from workflows.domain.audience import Recipient, people
from workflows.domain.content import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFacts:
    """A channel as it is configured now; the fingerprint changes when its destination could."""

    id: int
    name: str
    kind: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MassSend:
    """What would leave: ``parts`` by kind of channel, to each of ``recipients``."""

    subject: str
    audience: str
    send_at: datetime | None
    valid_until: datetime | None
    urgent: bool
    recipients: Sequence[Recipient]
    channels: Sequence[ChannelFacts]
    parts: Mapping[str, Sequence[Part]]


@register
class MassSendAction(Action[MassSend]):
    kind = "mass_send"
    label = _("Mass send")

    def preview(self, subject: MassSend) -> dict[str, Any]:
        return {
            "subject": subject.subject,
            "audience": subject.audience,
            "send_at": subject.send_at and subject.send_at.astimezone(UTC).isoformat(),
            "valid_until": subject.valid_until and subject.valid_until.astimezone(UTC).isoformat(),
            "urgent": subject.urgent,
            "people": people(subject.recipients),
            "recipients": [recipient.facts() for recipient in subject.recipients],
            "channels": [
                {
                    "id": channel.id,
                    "name": channel.name,
                    "kind": channel.kind,
                    "fingerprint": channel.fingerprint,
                }
                for channel in subject.channels
            ],
            "parts": {kind: [part.text for part in parts] for kind, parts in sorted(subject.parts.items())},
        }
