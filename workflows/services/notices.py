"""Notices of the audit trail, told to a group by one of our channels.

These are words of the system's own to the people who answer for it, so they pass no gate; they keep the pace.
"""

import uuid

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import notices
from compliance_bot.guardrails.secrets import SecretError
from workflows import channels
from workflows.channels import DeliveryError, Means, Parcel, Sender
from workflows.domain.content import Content, Part
from workflows.models import Channel
from workflows.registry import UnknownKind
from workflows.services import outbound, pacing, secrets
from workflows.services.attachments import read_attachment
from workflows.services.tokens import SharedToken


def register() -> None:
    """Tell notices to the channel that AUDIT_CHANNEL names, if it names one."""
    if settings.AUDIT_CHANNEL:
        notices.register("channel", tell)


def tell(subject: str, text: str) -> None:
    """Send one notice to the channel. Raises NotTold; nothing is tried again, so that nothing arrives twice."""
    channel = _usable_channel()
    try:
        adapter = channels.registry.get(channel.kind)
        values = secrets.of_channel(channel, purpose="notice")
    except (UnknownKind, SecretError) as error:
        raise notices.NotTold(str(error)) from error
    if not adapter.speaks_to_a_group:
        raise notices.NotTold(_("The channel “%(name)s” does not speak to a group.") % {"name": channel})
    parts = adapter.render(Content(title=subject, blocks=tuple(text.strip().split("\n\n"))), channel.config)
    with outbound.session() as http:
        means = Means(
            config=channel.config,
            secrets=values,
            http=http,
            tokens=SharedToken(channel),
            read_attachment=read_attachment,
        )
        try:
            with adapter.connect(means) as sender:
                for part in parts:
                    _send(part, channel, sender)
        except DeliveryError as error:
            raise notices.NotTold(str(error)) from error


def _usable_channel() -> Channel:
    channel = Channel.objects.filter(name=settings.AUDIT_CHANNEL).first()
    if channel is None:
        raise notices.NotTold(_("There is no channel called “%(name)s”.") % {"name": settings.AUDIT_CHANNEL})
    if not channel.enabled or channel.broken_at is not None:
        raise notices.NotTold(_("The channel “%(name)s” is switched off or out of order.") % {"name": channel})
    return channel


def _send(part: Part, channel: Channel, sender: Sender) -> None:
    with transaction.atomic():
        grant = pacing.take(pacing.channel_lanes(channel), timezone.now())
    if not grant.calls:
        raise notices.NotTold(_("The channel “%(name)s” is busy.") % {"name": channel})
    try:
        sender(Parcel(part=part, addresses=("",), key=str(uuid.uuid4())))
    finally:
        pacing.free(grant, timezone.now())
