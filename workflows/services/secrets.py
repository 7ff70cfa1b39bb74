"""Secret values by reference. A value passes through here and is kept nowhere."""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from audit import context
from audit.recorder import Outcome, record
from compliance_bot.guardrails import policy
from compliance_bot.guardrails import secrets as stores
from workflows.actions.secret_replace import SecretReplacement
from workflows.domain.canonical import digest
from workflows.domain.errors import Invalid, StaleContent
from workflows.domain.events import Event
from workflows.domain.states import ApprovalState
from workflows.models import ApprovalRequest, CallbackApp, Channel, ChannelSecret, SecretRef
from workflows.services import approvals, configuration
from workflows.services.reasons import clean_reason

ACTION = "secret_reveal_or_replace"


@dataclass(frozen=True, slots=True)
class _Read:
    """One reading, as the trail tells it once. Called when its event is committed."""

    request_id: uuid.UUID
    channel: int
    purpose: str
    problem: str

    def __call__(self) -> None:
        if len(_told) >= _TOLD_AT_MOST:
            _told.clear()  # at worst something is recorded twice
        _told.add(self)

    def is_told(self) -> bool:
        """Whether its event was committed, or will be with this very transaction."""
        return self in _told or any(entry[1] == self for entry in transaction.get_connection().run_on_commit)


# What this process has recorded lately, so that a message with a thousand deliveries reads its key in one event.
_told: set[_Read] = set()
_TOLD_AT_MOST = 500


def store(*, secret: SecretRef, value: str, by: User, reason: str = "") -> ApprovalRequest | None:
    """Keep a new value in the reference's store. The trail learns that it happened, never the value.

    Where the policy asks for a second person before a stored value is replaced, the request is returned, and the old
    value stays in use until then.
    """
    value = value.strip()
    if not value:
        raise Invalid(_("The value is empty."), field="value")
    if secret.rotated_at is not None and policy.current().actions.needs_approval(ACTION):
        return _ask(secret, value, by=by, reason=reason)
    with transaction.atomic(), context.acting(by):
        SecretRef.objects.filter(pk=secret.pk).update(rotated_at=timezone.now())
        record(Event.SECRET_STORED, target=secret)
        configuration.note_secret(secret)
        try:
            # Last: if the store refuses, nothing above has happened.
            stores.get(secret.store).write(secret.name, value)
        except stores.SecretError as error:
            raise Invalid(str(error), field="value") from error
    return None


def _ask(secret: SecretRef, value: str, *, by: User, reason: str) -> ApprovalRequest:
    """The new value waits in the store beside the old one, under a name that the request knows."""
    pending = f"pending-{uuid.uuid4().hex}"
    with transaction.atomic(), context.acting(by):
        try:
            stores.get(secret.store).write(pending, value)
        except stores.SecretError as error:
            raise Invalid(str(error), field="value") from error
        uses = secret.uses.count()
        return approvals.request(
            action=ACTION,
            subject=secret,
            size=uses,
            reason=clean_reason(reason) or _("A new value for %(secret)s") % {"secret": secret},
            requested_by=by,
            authored_by=secret.owner,
            payload={"pending": pending},
        )


def _describe(approval: ApprovalRequest) -> SecretReplacement:
    secret = SecretRef.objects.get(pk=approval.subject_id)
    try:
        value = stores.get(secret.store).read(approval.payload["pending"])
    except stores.SecretError as error:
        raise StaleContent(str(error)) from error
    return SecretReplacement(
        name=secret.name,
        store=secret.store,
        used_by=sorted(secret.uses.values_list("channel__name", flat=True)),
        fingerprint=salted_hmac("workflows.secret", value, algorithm="sha256").hexdigest(),
    )


def _replace(approval: ApprovalRequest, plain: SecretReplacement) -> ApprovalState:
    secret = SecretRef.objects.get(pk=approval.subject_id)
    store = stores.get(secret.store)
    SecretRef.objects.filter(pk=secret.pk).update(rotated_at=timezone.now())
    record(Event.SECRET_STORED, target=secret)
    try:
        store.write(secret.name, store.read(approval.payload["pending"]))
    except stores.SecretError as error:
        raise Invalid(str(error), field="value") from error
    _drop(approval)
    return ApprovalState.EXECUTED


def _drop(approval: ApprovalRequest) -> None:
    """The value that waited is removed from the store once nothing can be decided any more."""

    def remove() -> None:
        with suppress(stores.SecretError, SecretRef.DoesNotExist):
            stores.get(SecretRef.objects.get(pk=approval.subject_id).store).delete(approval.payload["pending"])

    transaction.on_commit(remove)


approvals.carries_out(
    ACTION,
    approvals.Procedure(
        describe=_describe,
        execute=_replace,
        deny=lambda approval, reason: _drop(approval),
        expire=_drop,
        reopen=_drop,
    ),
)


def of_channel(channel: Channel, *, purpose: str) -> dict[str, str]:
    """The values that a channel's adapter needs, by field. Raises guardrails' SecretError.

    The trail learns which secrets were read and what for, once under one request; never a value.
    """
    uses = list(channel.secrets.select_related("secret"))
    try:
        values = {use.field: stores.get(use.secret.store).read(use.secret.name) for use in uses}
    except stores.SecretError as error:
        _tell_read(channel, uses, purpose, problem=str(error))
        raise
    _tell_read(channel, uses, purpose, problem="")
    return values


def of_callback(app: CallbackApp) -> tuple[str, str]:
    """The token and the EncodingAESKey of a callback. Raises guardrails' SecretError.

    Told once a day by each process: a callback may come every second, and each needs them.
    """
    token, key = (stores.get(secret.store).read(secret.name) for secret in (app.token, app.aes_key))
    today = uuid.uuid5(uuid.NAMESPACE_OID, f"{timezone.localdate()}")
    read = _Read(today, app.pk, "callback", "")
    if not read.is_told():
        facts = {"secrets": sorted([app.token.name, app.aes_key.name]), "for": "callback"}
        with transaction.atomic(), context.system_acting():
            record(Event.SECRET_READ, target=app, facts=facts)
            transaction.on_commit(read)
    return token, key


def _tell_read(channel: Channel, uses: Sequence[ChannelSecret], purpose: str, *, problem: str) -> None:
    read = _Read(context.current().request_id, channel.pk, purpose, problem)
    if not uses or read.is_told():
        return
    facts = {"secrets": sorted({use.secret.name for use in uses}), "for": purpose}
    outcome = Outcome.FAILURE if problem else Outcome.SUCCESS
    with transaction.atomic():
        record(Event.SECRET_READ, target=channel, why=problem, outcome=outcome, facts=facts)
        transaction.on_commit(read)


def fingerprint(channel: Channel, values: Mapping[str, str]) -> str:
    """Changes whenever the channel could lead elsewhere: a robot's key decides which group reads it.

    The values go in under a key of ours, so that the fingerprint tells nobody anything about them.
    """
    bound = {
        field: salted_hmac("workflows.channel", value, algorithm="sha256").hexdigest()
        for field, value in values.items()
    }
    return digest({"kind": channel.kind, "config": channel.config, "secrets": bound})
