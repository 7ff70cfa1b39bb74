"""The names that audit events may have. An undeclared name is a typing slip and is refused."""

from collections.abc import Collection, Iterator, Mapping

from django.db.models import TextChoices
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

_labels: dict[str, str | Promise] = {}
_urgent: set[str] = set()
_classes: dict[str, str] = {}

STANDARD = "standard"
ACCESS = "access"
DECISION = "decision"


class AccessEvent(TextChoices):
    """What the trail itself observes: who came in, who tried."""

    SIGNED_IN = "access.signed_in", _("Signed in")
    SIGN_IN_FAILED = "access.sign_in_failed", _("Sign-in failed")
    SIGNED_OUT = "access.signed_out", _("Signed out")
    DENIED = "access.denied", _("Access denied")
    PASSWORD_CHANGED = "user.password_changed", _("Password changed")


class ObjectEvent(TextChoices):
    """Field changes that people make in forms; the facts hold the difference."""

    CREATED = "object.created", _("Created")
    CHANGED = "object.changed", _("Changed")
    DELETED = "object.deleted", _("Deleted")


class TrailEvent(TextChoices):
    """What is done with the trail itself."""

    VERIFIED = "trail.verified", _("Trail verified")
    CHECKED = "trail.checked", _("Trail checked for gaps")
    EXPORT_STARTED = "trail.export_started", _("Export started")
    EXPORT_FINISHED = "trail.export_finished", _("Export finished")
    EXPORT_CANCELLED = "trail.export_cancelled", _("Export cancelled")
    EXPORT_VIEWED = "trail.export_viewed", _("Export viewed")
    EXPORT_DOWNLOADED = "trail.export_downloaded", _("Export downloaded")
    EXPORT_EXPIRED = "trail.export_expired", _("Export removed")
    HOLD_PLACED = "trail.hold_placed", _("Legal hold placed")
    HOLD_RELEASE_ASKED = "trail.hold_release_asked", _("Release of a legal hold asked for")
    HOLD_RELEASE_REFUSED = "trail.hold_release_refused", _("Release of a legal hold refused")
    HOLD_RELEASED = "trail.hold_released", _("Legal hold released")
    PURGE_GRANTED = "trail.purge_granted", _("Purge granted")
    PURGED = "trail.purged", _("Archived events purged")
    ARCHIVE_EXPIRED = "trail.archive_expired", _("Archive removed")
    ARCHIVE_READ = "trail.archive_read", _("Archive read")
    HOUSE_KEPT = "trail.house_kept", _("Old rows removed")
    PAYLOAD_ERASED = "trail.payload_erased", _("Personal details erased")
    KEY_ROTATED = "trail.key_rotated", _("Signing key changed")
    CHECKPOINT_SENT = "trail.checkpoint_sent", _("Checkpoint sent")


def declare(
    events: type[TextChoices], *, urgent: Collection[str] = (), classes: Mapping[str, Collection[str]] | None = None
) -> None:
    """Make the names of ``events`` known, with their labels for people.

    ``urgent`` ones are sealed at once. ``classes``: which belong to another retention class than the standard one.
    """
    _labels.update(zip(events.values, events.labels, strict=True))
    _urgent.update(urgent)
    for name, members in (classes or {}).items():
        _classes.update(dict.fromkeys(members, name))


def retention_class(what: str) -> str:
    """The class by which the policy may keep this event longer or shorter."""
    return _classes.get(what, STANDARD)


def is_urgent(what: str) -> bool:
    return what in _urgent


def is_declared(what: str) -> bool:
    return what in _labels


def label(what: str) -> str:
    return str(_labels.get(what, what))


def labels() -> Iterator[tuple[str, str | Promise]]:
    """Every name with its label, not yet translated."""
    return iter(_labels.items())


def areas() -> set[str]:
    """What events are about: the parts of their names before the dot."""
    return {what.partition(".")[0] for what in _labels}


def choices() -> list[tuple[str, str]]:
    return sorted((what, str(text)) for what, text in _labels.items())


declare(AccessEvent, classes={ACCESS: AccessEvent.values})
declare(ObjectEvent)
declare(
    TrailEvent,
    urgent=[TrailEvent.HOLD_PLACED, TrailEvent.HOLD_RELEASED, TrailEvent.PURGE_GRANTED, TrailEvent.KEY_ROTATED],
    classes={
        DECISION: [
            *(TrailEvent.HOLD_PLACED, TrailEvent.HOLD_RELEASE_ASKED, TrailEvent.HOLD_RELEASE_REFUSED),
            TrailEvent.HOLD_RELEASED,
        ]
    },
)
