"""Messages from draft to release: one gate for every send."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context, story
from audit.recorder import record
from compliance_bot.guardrails import policy
from compliance_bot.guardrails.secrets import SecretError
from workflows import actions, channels
from workflows.actions.mass_send import ChannelFacts, MassSend, Rendition
from workflows.curation import compose
from workflows.domain import wording
from workflows.domain.audience import Recipient, mass_send_reasons, people
from workflows.domain.content import Content, Part
from workflows.domain.errors import Invalid, NotPermitted, StaleContent, WrongState
from workflows.domain.events import Event
from workflows.domain.states import (
    DELIVERY_DUE,
    MESSAGE_TRANSITIONS,
    ApprovalState,
    DeliveryState,
    MessageState,
    OfferState,
    Priority,
    allowed_from,
)
from workflows.models import (
    ApprovalRequest,
    Audience,
    Channel,
    Delivery,
    Digest,
    DigestEntry,
    Message,
    MessagePart,
    MessageTemplate,
    StandingApproval,
)
from workflows.registry import UnknownKind
from workflows.services import approvals, audiences, drafts, secrets, standing
from workflows.services.queue import enqueue
from workflows.services.reasons import clean_reason

ACTION = "mass_send"
# What a person writes of a message; services own the rest of the row.
WRITTEN = ("subject", "body", "audience", "reason", "send_at", "valid_until", "urgent")
# A worker that was asked to dispatch has this long before another is asked: longer than a queue task may live.
# So many deliveries are worth more than one worker.
_MANY = 500
_AT_ONCE = 1000
HINT_LASTS = timedelta(seconds=75)


def from_digest(digest: Digest) -> Message:
    """The message that carries a digest; one a digest, however often this is called. Not yet submitted."""
    workflow = digest.workflow
    if workflow.audience is None:
        raise Invalid(_("The workflow has no audience."), field="audience")
    with transaction.atomic():
        message, created = Message.objects.get_or_create(
            digest=digest,
            defaults={
                "workflow": workflow,
                "subject": compose.render(digest.content).title[:200],
                "audience": workflow.audience,
                "reason": workflow.goal,
                "author": workflow.owner,
            },
        )
        if created:
            record(Event.MESSAGE_WRITTEN, target=message, facts={"digest": digest.pk})
    return message


def write_from_template(
    *, template: MessageTemplate, values: Mapping[str, wording.Value], audience: Audience, reason: str, by: User
) -> Message:
    """A draft in the words of a template. Raises Invalid, naming the field."""
    if not by.has_perm("workflows.add_message"):
        raise NotPermitted(_("Your role does not include writing messages."))
    missing = [variable.name for variable in template.declared() if not values.get(variable.name)]
    if missing:
        raise Invalid(_("Fill in: %(names)s.") % {"names": ", ".join(missing)}, field=missing[0])
    try:
        subject, body = wording.render(template.subject, values), wording.render(template.body, values)
    except wording.WordingError as error:
        raise Invalid(str(error), field="template") from error
    draft = Message(subject=" ".join(subject.split())[:200], body=body, audience=audience, reason=reason)
    write(message=draft, by=by)
    return draft


def write(*, message: Message, by: User) -> None:
    """Keep what a person wrote. Only a draft can be written on, and only by its author.

    One message has one author: were a second person to edit it, neither would be barred from approving what the
    other wrote.
    """
    with transaction.atomic(), context.acting(by):
        if message.pk is not None:
            drafts.require_own(message.pk, by)
        message.author = by
        message.save(update_fields=None if message.pk is None else WRITTEN)
        body = hashlib.sha256(message.body.encode()).hexdigest()
        facts = {"subject": message.subject, "audience": message.audience.name, "body_sha256": body}
        record(Event.MESSAGE_WRITTEN, target=message, why=message.reason, facts=facts)


def write_anew(*, message_id: int, by: User) -> Message:
    """A draft with the words of a cancelled message, say a denied one; its request will follow the old one.

    A digest is not written anew: its items are free for the next one.
    """
    if not by.has_perm("workflows.add_message"):
        raise NotPermitted(_("Your role does not include writing messages."))
    old = Message.objects.get(pk=message_id)
    if old.state != MessageState.CANCELLED or old.digest_id is not None:
        raise WrongState(_("Only a cancelled message that a person wrote can be written anew."))
    words = {name: getattr(old, name) for name in WRITTEN if name not in {"send_at", "valid_until"}}
    draft = Message(**words, workflow=old.workflow, copy_of=old)
    write(message=draft, by=by)
    return draft


def submit(*, message_id: int, by: User) -> Message:
    """A person puts a draft before the gate: it is released at once, or waits for a second person.

    Whether approval is needed is computed here, from the policy and the resolved audience, for every caller alike.
    Raises Invalid when it could not be delivered as it stands.
    """
    if not by.has_perm("workflows.submit_message"):
        raise NotPermitted(_("Your role does not include sending messages."))
    written = story.latest(Event.MESSAGE_WRITTEN, Message(pk=message_id))
    with transaction.atomic(), context.acting(by, parent_event_id=written):
        return _put_before_gate(message_id, by, _gate)


def submit_digest(message: Message, *, requested_by: User) -> Message:
    """The same for a run's message: the system submits it for the workflow's owner, or for who started the run.

    A standing approval of the workflow may cover it.
    """
    with transaction.atomic():
        return _put_before_gate(message.pk, requested_by, _gate_of_digest)


def _put_before_gate(
    message_id: int, requested_by: User, gate_of: Callable[[Message, Sequence[Recipient]], "Gate"]
) -> Message:
    message = Message.objects.select_for_update(of=("self",)).get(pk=message_id)
    if message.state != MessageState.DRAFT:
        raise WrongState(_("This message was already submitted."))
    if message.valid_until is not None and message.valid_until <= (message.send_at or timezone.now()):
        raise Invalid(_("It would be too late before anything is sent: choose a later time."), field="valid_until")
    plain = describe(message)
    total = people(plain.recipients)
    gate = gate_of(message, plain.recipients)
    cause = context.current().as_task_argument()
    content_digest = actions.registry.get(ACTION).content_digest(plain)
    Message.objects.filter(pk=message.pk).update(
        gate=gate.text,
        needs_approval=gate.needs_approval,
        standing_approval=gate.standing,
        people=total,
        priority=_priority(message, plain.recipients),
        content_digest=content_digest,
        request_id=cause["request_id"],
        on_behalf_of=cause["on_behalf_of"],
    )
    record(Event.MESSAGE_SUBMITTED, target=message, why=message.reason, facts={"gate": gate.text, "people": total})
    if gate.standing is not None:
        facts = {"standing_approval": gate.standing.pk, "content_digest": content_digest}
        record(Event.STANDING_USED, target=message, why=gate.text, facts=facts)
    if gate.standing is not None or not gate.needs_approval:
        release(message, plain)
    else:
        _move(message, MessageState.PENDING)
        approvals.request(
            action=ACTION,
            subject=message,
            size=total,
            reason=message.reason,
            requested_by=requested_by,
            authored_by=message.author,
            previous=_request_of(message.copy_of),
        )
    message.refresh_from_db()
    return message


def _priority(message: Message, recipients: Sequence[Recipient]) -> Priority:
    if message.urgent:
        return Priority.ALERT
    if message.digest_id is not None:
        return Priority.DIGEST
    least = policy.current().actions.mass_send_min_recipients
    return Priority.MASS if mass_send_reasons(recipients, min_recipients=least) else Priority.DECISION


def _request_of(message: Message | None) -> ApprovalRequest | None:
    """The last request about a message."""
    if message is None:
        return None
    about = {"subject_type": Message._meta.label_lower, "subject_id": str(message.pk)}
    return ApprovalRequest.objects.filter(**about).order_by("pk").last()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Whether a message needs approval, in words that the message keeps. ``standing``: what approves it already."""

    needs_approval: bool
    text: str
    standing: StandingApproval | None = None


def judge(recipients: Sequence[Recipient]) -> Gate:
    """Whether the policy wants a second person before anything goes to these."""
    rules = policy.current().actions
    reasons = mass_send_reasons(recipients, min_recipients=rules.mass_send_min_recipients)
    if not reasons:
        return Gate(needs_approval=False, text=_("Open: not a mass send."))
    text = "; ".join(reasons)
    if not rules.needs_approval(ACTION):
        asks_none = _("Open: the policy asks for no approval (%(why)s).") % {"why": text}
        return Gate(needs_approval=False, text=asks_none)
    return Gate(needs_approval=True, text=_("Mass send: %(why)s.") % {"why": text})


def _gate(message: Message, recipients: Sequence[Recipient]) -> Gate:
    return judge(recipients)


def _gate_of_digest(message: Message, recipients: Sequence[Recipient]) -> Gate:
    """A standing approval is asked only where one is needed, and covers only what the workflow's audience gets."""
    gate, workflow = judge(recipients), message.workflow
    if not gate.needs_approval or workflow is None or workflow.audience_id != message.audience_id:
        return gate
    cover = standing.covering(workflow, timezone.now())
    text = cover.text if cover.standing else f"{gate.text} {cover.text}".rstrip()
    return Gate(needs_approval=True, text=text, standing=cover.standing)


def describe(message: Message) -> MassSend:
    """What would leave if the message left now. Raises Invalid, naming the field, where nothing could."""
    resolved = audiences.resolve(message.audience)
    recipients = resolved.recipients
    if not recipients and resolved.suppressed:
        named = {"name": message.audience}
        raise Invalid(_("Everybody in the audience “%(name)s” is suppressed.") % named, field="audience")
    if not recipients:
        raise Invalid(_("The audience “%(name)s” has no members.") % {"name": message.audience}, field="audience")
    used = Channel.objects.filter(pk__in={recipient.channel_id for recipient in recipients})
    content = content_of(message)
    facts = []
    alike: dict[tuple[str, tuple[Part, ...]], list[int]] = {}
    for channel in used.order_by("pk"):
        facts.append(
            ChannelFacts(id=channel.pk, name=channel.name, kind=channel.kind, fingerprint=_require_usable(channel))
        )
        parts = channels.registry.get(channel.kind).render(content, channel.config)
        alike.setdefault((channel.kind, parts), []).append(channel.pk)
    return MassSend(
        subject=message.subject,
        audience=message.audience.name,
        send_at=message.send_at,
        valid_until=message.valid_until,
        urgent=message.urgent,
        recipients=recipients,
        suppressed=resolved.suppressed,
        channels=facts,
        renditions=[Rendition(kind=kind, channels=pks, parts=parts) for (kind, parts), pks in alike.items()],
        attachments=content.attachments,
    )


def content_of(message: Message) -> Content:
    """What the message says, before any channel shapes it."""
    attachments = tuple(attachment.as_attached() for attachment in message.attachments.defer("content"))
    if message.digest is None:
        return Content(title=message.subject, blocks=wording.blocks(message.body), attachments=attachments)
    content = compose.render(message.digest.content)
    if message.workflow is not None and message.workflow.template is not None:
        try:
            content = wording.of_digest(message.workflow.template.body, content)
        except wording.WordingError as error:
            raise Invalid(str(error), field="template") from error
    return replace(content, attachments=attachments)


def _require_usable(channel: Channel) -> str:
    """The channel's fingerprint. Raises Invalid where it could not deliver: better now than at night in a worker."""
    if not channel.enabled:
        raise Invalid(_("The channel “%(name)s” is switched off.") % {"name": channel}, field="audience")
    try:
        adapter = channels.registry.get(channel.kind)
        values = secrets.of_channel(channel, purpose="preview")
    except (UnknownKind, SecretError) as error:
        raise Invalid(f"{channel}: {error}", field="audience") from error
    if missing := [field for field in adapter.secret_fields if field not in values]:
        named = {"name": channel, "fields": ", ".join(missing)}
        raise Invalid(_("The channel “%(name)s” has no secret for %(fields)s.") % named, field="audience")
    config = adapter.config_form(data=channel.config)
    if not config.is_valid():
        named = {"name": channel, "fields": ", ".join(config.errors)}
        raise Invalid(_("The channel “%(name)s” is not configured: %(fields)s.") % named, field="audience")
    return secrets.fingerprint(channel, values)


def release(message: Message, plain: MassSend) -> None:
    """Open the gate: write the deliveries and wake a worker. Part of the caller's transaction."""
    now = timezone.now()
    due = max(now, message.send_at or now)
    _move(message, MessageState.RELEASED, released_at=now, next_attempt_at=due)
    parts_of = {
        channel_id: parts
        for number, rendition in enumerate(plain.renditions, 1)
        for parts in [_store(message, number, rendition)]
        for channel_id in rendition.channels
    }
    fingerprint_of = {channel.id: channel.fingerprint for channel in plain.channels}
    for start in range(0, len(plain.recipients), _AT_ONCE):  # never all of the rows in memory
        Delivery.objects.bulk_create(
            Delivery(
                message=message,
                channel_id=recipient.channel_id,
                channel_fingerprint=fingerprint_of[recipient.channel_id],
                address=recipient.address,
                recipient=recipient.label,
                part=part,
                state=DeliveryState.QUEUED,
                not_before=due,
            )
            for recipient in plain.recipients[start : start + _AT_ONCE]
            for part in parts_of[recipient.channel_id]
        )
    record(Event.MESSAGE_RELEASED, target=message, why=message.reason, facts={"not_before": due.isoformat()})
    if due <= now:
        wake(message.pk, now)


def _store(message: Message, number: int, rendition: Rendition) -> Sequence[MessagePart]:
    return MessagePart.objects.bulk_create(
        MessagePart(
            message=message,
            kind=rendition.kind,
            rendition=number,
            number=part.number,
            of=part.of,
            form=part.form,
            text=part.text,
            attachments=[asdict(attached) for attached in part.attachments],
        )
        for part in rendition.parts
    )


def wake(message_id: int, now: datetime) -> None:
    """Hand a released message to a worker; asked again only if that hint is lost (see clock).

    A message to many is handed to all workers but one, which everything else needs.
    """
    Message.objects.filter(pk=message_id).update(next_attempt_at=now + HINT_LASTS)
    due = Delivery.objects.filter(message=message_id, not_before__lte=now)
    many = due[_MANY : _MANY + 1].exists()
    workers: Any = settings.Q_CLUSTER["workers"]
    for _number in range(max(1, workers - 1) if many else 1):
        enqueue("workflows.tasks.dispatch", message_id)


def look_again(held: QuerySet[Delivery]) -> None:
    """Let the clock look again at messages whose deliveries were held."""
    due = held.filter(state__in=sorted(DELIVERY_DUE)).values("message")
    Message.objects.filter(pk__in=due, state=MessageState.RELEASED).update(next_attempt_at=timezone.now())


def cancel(message: Message, why: str, entries: OfferState) -> None:
    """It will not be sent. ``entries``: what becomes of the items that its digest offered."""
    _move(message, MessageState.CANCELLED, finished_at=timezone.now())
    settle_entries(message, entries)
    record(Event.MESSAGE_CANCELLED, target=message, why=why)


def discard(*, message_id: int, by: User, reason: str) -> None:
    """A person throws a draft away; a digest's items are free to be offered again."""
    if not by.has_perm("workflows.submit_message"):
        raise NotPermitted(_("Your role does not include sending messages."))
    with transaction.atomic(), context.acting(by):
        message = Message.objects.select_for_update(of=("self",)).get(pk=message_id)
        if message.state != MessageState.DRAFT:
            raise WrongState(_("Only a draft can be thrown away."))
        cancel(message, clean_reason(reason), OfferState.RELEASED)


def abandon(digest: Digest, why: str) -> None:
    """A run could not put its digest before the gate: its items must not be held by a message that never was."""
    with transaction.atomic():
        message = Message.objects.filter(digest=digest).first()
        if message is None:
            DigestEntry.objects.filter(digest=digest, state=OfferState.OFFERED).update(state=OfferState.RELEASED)
        elif message.state == MessageState.DRAFT:
            cancel(message, why, OfferState.RELEASED)


def settle_entries(message: Message, state: OfferState) -> None:
    """Seen is not delivered: only now is it known what became of the items."""
    if message.digest_id is not None:
        DigestEntry.objects.filter(digest_id=message.digest_id, state=OfferState.OFFERED).update(state=state)


def _reopen(message: Message) -> None:
    _move(message, MessageState.DRAFT)
    record(Event.MESSAGE_REOPENED, target=message)


def _move(message: Message, state: MessageState, **fields: object) -> None:
    moved = Message.objects.filter(pk=message.pk, state__in=allowed_from(MESSAGE_TRANSITIONS, state)).update(
        state=state, **fields
    )
    if moved != 1:
        raise WrongState(_("The message has moved on meanwhile."))
    message.state = state


def _get(approval: ApprovalRequest) -> Message:
    return Message.objects.select_related("audience", "digest", "workflow").get(pk=approval.subject_id)


def _describe_pending(approval: ApprovalRequest) -> MassSend:
    try:
        return describe(_get(approval))
    except Invalid as error:
        raise StaleContent(str(error).rstrip(".。")) from error


def _execute(approval: ApprovalRequest, plain: MassSend) -> ApprovalState:
    """Its deliveries are on their way; the last of them ends the request."""
    release(_get(approval), plain)
    return ApprovalState.EXECUTING


def _deny(approval: ApprovalRequest, why: str) -> None:
    cancel(_get(approval), why, OfferState.DISMISSED)


def _expire(approval: ApprovalRequest) -> None:
    """A digest grows stale: the next one offers its items again. What a person wrote stays theirs to resubmit."""
    message = _get(approval)
    if message.digest_id is not None:
        cancel(message, _("nobody decided in time"), OfferState.RELEASED)
    else:
        _reopen(message)


approvals.carries_out(
    ACTION,
    approvals.Procedure(
        describe=_describe_pending,
        execute=_execute,
        deny=_deny,
        expire=_expire,
        reopen=lambda approval: _reopen(_get(approval)),
    ),
)
