"""Secret values by reference. A value passes through here and is kept nowhere."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from audit import context
from audit.recorder import Outcome, record
from compliance_bot.guardrails import secrets as stores
from workflows.domain.canonical import digest
from workflows.domain.errors import Invalid
from workflows.domain.events import Event
from workflows.models import Channel, ChannelSecret, SecretRef
from workflows.services import configuration


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


def store(*, secret: SecretRef, value: str, by: AbstractBaseUser) -> None:
    """Keep a new value in the reference's store. The trail learns that it happened, never the value."""
    if not value.strip():
        raise Invalid(_("The value is empty."), field="value")
    with transaction.atomic(), context.acting(by):
        SecretRef.objects.filter(pk=secret.pk).update(rotated_at=timezone.now())
        record(Event.SECRET_STORED, target=secret)
        configuration.note_secret(secret)
        try:
            # Last: if the store refuses, nothing above has happened.
            stores.get(secret.store).write(secret.name, value.strip())
        except stores.SecretError as error:
            raise Invalid(str(error), field="value") from error


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
