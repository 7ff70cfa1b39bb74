"""New passwords of accounts, whichever page, command or shell sets them. Never a password, never a hash."""

from collections.abc import Collection
from typing import Any

from django.contrib.auth.hashers import get_hasher, identify_hasher
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.signals import post_save, pre_save
from django.dispatch import receiver

from audit.recorder import record
from audit.vocabulary import AccessEvent

_CHANGED = "_password_is_changed"


@receiver(pre_save, sender=User)
def compare(instance: User, update_fields: Collection[str] | None, **kwargs: Any) -> None:
    """Only now is the hash in the database still the old one. A new account has none: its creation says enough."""
    is_written = update_fields is None or "password" in update_fields
    stored = User.objects.filter(pk=instance.pk).values_list("password", flat=True).first() if is_written else None
    changed = stored is not None and stored != instance.password and not _is_rehash(stored, instance, update_fields)
    setattr(instance, _CHANGED, changed)


@receiver(post_save, sender=User)
def tell(instance: User, **kwargs: Any) -> None:
    if getattr(instance, _CHANGED, False):
        with transaction.atomic():
            record(AccessEvent.PASSWORD_CHANGED, target=instance)


def _is_rehash(stored: str, user: User, update_fields: Collection[str] | None) -> bool:
    """Whether it is the same password under a newer hash.

    ``check_password`` saves that at a sign-in: the one column alone, with the raw password set and taken away again,
    and only where the stored hash is of an older kind. All of it is asked for, so that a new password is not taken for
    it. Whoever writes a ready hash, as an approved change does, has set no raw password on this object.
    """
    was_taken_away = vars(user).get("_password", "never set") is None
    return was_taken_away and set(update_fields or ()) == {"password"} and _is_outdated(stored)


def _is_outdated(stored: str) -> bool:
    try:
        hasher = identify_hasher(stored)
    except ValueError:  # no hash of a kind that is known, so no sign-in succeeded with it
        return False
    preferred = get_hasher()
    return hasher.algorithm != preferred.algorithm or preferred.must_update(stored)
