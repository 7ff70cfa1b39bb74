"""Taking back what has left, where the receiver lets us: asked for by a person, carried out by a worker."""

from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context, story
from audit.recorder import Outcome, record
from compliance_bot.guardrails.secrets import SecretError
from workflows import channels
from workflows.channels import DeliveryError, Rejected
from workflows.domain.errors import NotPermitted, ReasonRequired, WrongState
from workflows.domain.events import Event
from workflows.domain.states import DeliveryState
from workflows.models import Channel, Delivery, Message
from workflows.registry import UnknownKind
from workflows.services.lines import Lines
from workflows.services.queue import enqueue
from workflows.services.reasons import clean_reason


def recallable(message_id: int, now: datetime) -> QuerySet[Delivery]:
    """Deliveries of the message that can be taken back at this moment."""
    within = Q(pk__in=[])
    for adapter in channels.registry:
        if adapter.recallable_for > timedelta(0):
            within |= Q(channel__kind=adapter.kind, sent_at__gt=now - adapter.recallable_for)
    sent = Delivery.objects.filter(within, message=message_id, state=DeliveryState.SENT, recalled_at=None)
    return sent.exclude(receipt="")


def ask(*, message_id: int, by: User, reason: str) -> None:
    """A person wants a message taken back. What has not left is a matter of halting it."""
    if not by.has_perm("workflows.pause_sending"):
        raise NotPermitted(_("Your role does not include recalling messages."))
    reason = clean_reason(reason)
    if not reason:
        raise ReasonRequired(_("Say why."))
    message = Message.objects.get(pk=message_id)
    released = story.latest(Event.MESSAGE_RELEASED, message)
    with transaction.atomic(), context.acting(by, parent_event_id=released):
        if not recallable(message_id, timezone.now()).exists():
            raise WrongState(_("Nothing of this message can be taken back."))
        record(Event.RECALL_ASKED, target=message, why=reason)
        enqueue("workflows.tasks.recall", message_id)


def carry_out(message_id: int) -> int:
    """Take back each of the message's calls, once. Returns how many recipients that concerns."""
    rows = recallable(message_id, timezone.now())
    recalled = 0
    with Lines() as lines:
        for channel_id, reference in sorted(set(rows.values_list("channel", "receipt"))):
            channel = Channel.objects.get(pk=channel_id)
            error = _call(lines, channel, reference)
            recalled += _keep(message_id, channel, reference, error)
    return recalled


def _call(lines: Lines, channel: Channel, reference: str) -> DeliveryError | None:
    """What went wrong, if something did."""
    try:
        lines.to(channel, purpose="recall").recall(reference)
    except (UnknownKind, SecretError) as error:
        return Rejected("unusable", str(error))
    except DeliveryError as error:
        return error
    return None


@transaction.atomic
def _keep(message_id: int, channel: Channel, reference: str, error: DeliveryError | None) -> int:
    message, rows = Message.objects.get(pk=message_id), Delivery.objects.filter(message=message_id, channel=channel)
    facts = {"receipt": reference, "channel": channel.name}
    if error is not None:
        record(Event.RECALLED, target=message, outcome=Outcome.FAILURE, why=str(error), facts=facts)
        return 0
    recalled = rows.filter(receipt=reference, recalled_at=None).update(recalled_at=timezone.now())
    record(Event.RECALLED, target=message, facts={**facts, "recipients": recalled})
    return recalled
