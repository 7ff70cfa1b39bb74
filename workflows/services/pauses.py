"""The kill switch: nothing is sent while a pause covers it; collecting, approvals and the trail go on.

A claim and the switch never overlap: each claim keeps the switch from moving until it has committed, so once a pause
is committed no new call begins. A call whose claim was committed before it comes to its end.
"""

import uuid

from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context, story
from audit.recorder import record
from workflows.domain.errors import NotPermitted, ReasonRequired, WrongState
from workflows.domain.events import Event
from workflows.domain.states import DELIVERY_DUE, MessageState
from workflows.models import Channel, Delivery, Message, SendingPause, Workflow
from workflows.models.pause import SendingPauseQuerySet
from workflows.services import messages
from workflows.services.reasons import clean_reason

Target = Workflow | Channel | Message


def pause(*, by: User, reason: str, target: Target | None = None) -> SendingPause:
    """A person stops sending: of one workflow, channel or message, or, without a target, all of it."""
    with context.acting(by, parent_event_id=_release_of(target)):
        return _place(by, reason, target)


def resume(*, pause_id: int, by: User, reason: str) -> SendingPause:
    """A person lets sending go on; the clock looks at once at what the pause held."""
    paused = SendingPause.objects.get(pk=pause_id)
    with context.acting(by, parent_event_id=_start_of(paused)):
        return _lift(paused, by, reason)


def pause_from_shell(*, by: User, reason: str, target: Target | None = None) -> SendingPause:
    """The same from a shell of the server, where nobody has signed in: the system acts, for the person named."""
    with context.system_acting(on_behalf_of=by.get_username(), parent_event_id=_release_of(target)):
        return _place(by, reason, target)


def resume_from_shell(*, pause_id: int, by: User, reason: str) -> SendingPause:
    paused = SendingPause.objects.get(pk=pause_id)
    with context.system_acting(on_behalf_of=by.get_username(), parent_event_id=_start_of(paused)):
        return _lift(paused, by, reason)


def active() -> SendingPauseQuerySet:
    """The pauses in force, the newest first."""
    return SendingPause.objects.in_force().select_related("workflow", "channel", "message", "placed_by")


def of(target: Target | None) -> SendingPause | None:
    """The pause in force of this very target; None as target is everything."""
    return active().of(target).first()


def in_force(target: Target | Delivery) -> SendingPause | None:
    """A pause that keeps this from sending: its own, or a wider one."""
    match target:
        case Delivery():
            covering = _over_message(target.message_id) | Q(channel=target.channel_id)
        case Message():
            covering = _over_message(target.pk)
        case _:
            covering = _EVERYTHING | Q(**{str(target._meta.model_name): target})
    return active().filter(covering).first()


def over_part_of(message: Message) -> SendingPauseQuerySet:
    """The pauses of its workflow, and of channels that it has still to go through."""
    due = Delivery.objects.filter(message=message, state__in=sorted(DELIVERY_DUE)).values("channel")
    of_workflow = Q(workflow__isnull=False, workflow=message.workflow_id)
    return active().filter(of_workflow | Q(channel__in=due))


_EVERYTHING = Q(workflow=None, channel=None, message=None)


def _over_message(message_id: int) -> Q:
    """Pauses that hold a message whole."""
    workflow = Message.objects.filter(pk=message_id).values("workflow")
    return _EVERYTHING | Q(workflow__in=workflow) | Q(message=message_id)


def none_holds(message_id: int) -> Q:
    """A condition on a message's deliveries. It depends on no row, so the database looks at the pauses once."""
    pauses = SendingPause.objects.in_force()
    channels = pauses.filter(channel__isnull=False).values("channel")
    return ~Exists(pauses.filter(_over_message(message_id))) & ~Q(channel__in=channels)


def keep_switch() -> None:
    """Nobody pauses or resumes until this transaction is over. Any number of claims do this at once."""
    _lock("SELECT pg_advisory_xact_lock_shared(hashtextextended('sending', 0))")


def _move_switch() -> None:
    """Wait for the claims that are being made; those that come meanwhile wait for this transaction."""
    _lock("SELECT pg_advisory_xact_lock(hashtextextended('sending', 0))")


def _lock(statement: str) -> None:
    """For PostgreSQL; SQLite's IMMEDIATE transactions are already alone."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(statement)


def require_right(by: User) -> None:
    if not by.has_perm("workflows.pause_sending"):
        raise NotPermitted(_("Your role does not include pausing and resuming sending."))


def require_reason(text: str) -> str:
    reason = clean_reason(text)
    if not reason:
        raise ReasonRequired(_("Say why."))
    return reason


@transaction.atomic
def _place(by: User, reason: str, target: Target | None) -> SendingPause:
    require_right(by)
    reason = require_reason(reason)
    _move_switch()
    if isinstance(target, Message) and not Message.objects.filter(pk=target.pk, state=MessageState.RELEASED).exists():
        raise WrongState(_("Only a message on its way can be halted."))
    placed = SendingPause(reason=reason, placed_by=by, placed_at=timezone.now())
    if target is not None:
        setattr(placed, str(target._meta.model_name), target)
    try:
        with transaction.atomic():
            placed.save(force_insert=True)
    except IntegrityError as error:
        raise WrongState(_("This is paused already.")) from error
    record(Event.SENDING_PAUSED, target=target or placed, why=reason, facts={"paused": str(placed)})
    return placed


@transaction.atomic
def _lift(paused: SendingPause, by: User, reason: str) -> SendingPause:
    require_right(by)
    reason = require_reason(reason)
    _move_switch()
    lifted = SendingPause.objects.in_force().filter(pk=paused.pk)
    if not lifted.update(lifted_by=by, lifted_at=timezone.now(), lift_reason=reason):
        raise WrongState(_("This pause is not in force any more."))
    record(Event.SENDING_RESUMED, target=paused.target or paused, why=reason, facts={"resumed": str(paused)})
    messages.look_again(_held_by(paused))
    return paused


def _held_by(paused: SendingPause) -> QuerySet[Delivery]:
    match paused.target:
        case Workflow() as workflow:
            return Delivery.objects.filter(message__workflow=workflow)
        case Channel() as channel:
            return Delivery.objects.filter(channel=channel)
        case Message() as message:
            return Delivery.objects.filter(message=message)
    return Delivery.objects.all()


def _release_of(target: Target | None) -> uuid.UUID | None:
    """Halting a message belongs to the story of the message."""
    return story.latest(Event.MESSAGE_RELEASED, target) if isinstance(target, Message) else None


def _start_of(paused: SendingPause) -> uuid.UUID | None:
    return story.latest(Event.SENDING_PAUSED, paused.target or paused)
