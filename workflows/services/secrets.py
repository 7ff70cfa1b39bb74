"""Secret values by reference. A value passes through here and is kept nowhere."""

from collections.abc import Mapping

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from audit import context
from audit.recorder import record
from compliance_bot.guardrails import secrets as stores
from workflows.domain.canonical import digest
from workflows.domain.errors import Invalid
from workflows.domain.events import Event
from workflows.models import Channel, SecretRef


def store(*, secret: SecretRef, value: str, by: AbstractBaseUser) -> None:
    """Keep a new value in the reference's store. The trail learns that it happened, never the value."""
    if not value.strip():
        raise Invalid(_("The value is empty."), field="value")
    with transaction.atomic(), context.acting(by):
        SecretRef.objects.filter(pk=secret.pk).update(rotated_at=timezone.now())
        record(Event.SECRET_STORED, target=secret)
        try:
            # Last: if the store refuses, nothing above has happened.
            stores.get(secret.store).write(secret.name, value.strip())
        except stores.SecretError as error:
            raise Invalid(str(error), field="value") from error


def of_channel(channel: Channel) -> dict[str, str]:
    """The values that a channel's adapter needs, by field. Raises guardrails' SecretError."""
    return {
        use.field: stores.get(use.secret.store).read(use.secret.name)
        for use in channel.secrets.select_related("secret")
    }


def fingerprint(channel: Channel, values: Mapping[str, str]) -> str:
    """Changes whenever the channel could lead elsewhere: a robot's key decides which group reads it.

    The values go in under a key of ours, so that the fingerprint tells nobody anything about them.
    """
    bound = {
        field: salted_hmac("workflows.channel", value, algorithm="sha256").hexdigest()
        for field, value in values.items()
    }
    return digest({"kind": channel.kind, "config": channel.config, "secrets": bound})
