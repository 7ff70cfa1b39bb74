"""The names that audit events may have. An undeclared name is a typing slip and is refused."""

from collections.abc import Collection

from django.db.models import TextChoices
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

_labels: dict[str, str | Promise] = {}
_urgent: set[str] = set()


class AccessEvent(TextChoices):
    """What the trail itself observes: who came in, who tried."""

    SIGNED_IN = "access.signed_in", _("Signed in")
    SIGN_IN_FAILED = "access.sign_in_failed", _("Sign-in failed")
    SIGNED_OUT = "access.signed_out", _("Signed out")
    DENIED = "access.denied", _("Access denied")


class ObjectEvent(TextChoices):
    """Field changes that people make in forms; the facts hold the difference."""

    CREATED = "object.created", _("Created")
    CHANGED = "object.changed", _("Changed")
    DELETED = "object.deleted", _("Deleted")


class TrailEvent(TextChoices):
    """What is done with the trail itself."""

    VERIFIED = "trail.verified", _("Trail verified")
    EXPORT_STARTED = "trail.export_started", _("Export started")
    EXPORT_FINISHED = "trail.export_finished", _("Export finished")


def declare(events: type[TextChoices], *, urgent: Collection[str] = ()) -> None:
    """Make the names of ``events`` known, with their labels for people. ``urgent`` ones are sealed at once."""
    _labels.update(zip(events.values, events.labels, strict=True))
    _urgent.update(urgent)


def is_urgent(what: str) -> bool:
    return what in _urgent


def is_declared(what: str) -> bool:
    return what in _labels


def label(what: str) -> str:
    return str(_labels.get(what, what))


def choices() -> list[tuple[str, str]]:
    return sorted((what, str(text)) for what, text in _labels.items())


declare(AccessEvent)
declare(ObjectEvent)
declare(TrailEvent)
