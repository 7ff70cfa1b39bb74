"""Sending one message to many people."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import gettext_lazy as _

from workflows.actions import Action, register
from workflows.domain.audience import Recipient, people
from workflows.domain.canonical import digest_of_all
from workflows.domain.content import Attached, Part

# So many recipients are listed for the officer to read; the digest binds to all of them.
_LISTED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFacts:
    """A channel as it is configured now; the fingerprint changes when its destination could."""

    id: int
    name: str
    kind: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """The same parts, for all the channels that show them alike."""

    kind: str
    channels: Sequence[int]
    parts: Sequence[Part]

    def facts(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "channels": list(self.channels),
            "forms": [part.form for part in self.parts],
            "texts": [part.text for part in self.parts],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MassSend:
    """What would leave: to each of ``recipients`` the rendition of its channel."""

    subject: str
    audience: str
    send_at: datetime | None
    valid_until: datetime | None
    urgent: bool
    recipients: Sequence[Recipient]
    suppressed: int
    """Addresses of the audience that are left out, because they are never to be contacted."""
    channels: Sequence[ChannelFacts]
    renditions: Sequence[Rendition]
    attachments: Sequence[Attached]


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
            "recipients": [recipient.facts() for recipient in subject.recipients[:_LISTED]],
            "recipient_count": len(subject.recipients),
            "suppressed": subject.suppressed,
            "recipients_sha256": digest_of_all(recipient.facts() for recipient in subject.recipients),
            "attachments": [asdict(attached) for attached in subject.attachments],
            "channels": [
                {
                    "id": channel.id,
                    "name": channel.name,
                    "kind": channel.kind,
                    "fingerprint": channel.fingerprint,
                }
                for channel in subject.channels
            ],
            "renditions": [rendition.facts() for rendition in subject.renditions],
        }
