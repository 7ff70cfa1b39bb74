"""The trail: one append-only table. Rows are written by ``audit.recorder`` and by nothing else."""

import json
from typing import Any, NoReturn

from django.db import models
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _

from audit import vocabulary
from audit.models.fields import TextUUIDField


class AppendOnly(Exception):
    """The trail is never changed; what is wrong is corrected by a further event."""


class AppendOnlyQuerySet(models.QuerySet[Any]):
    def update(self, **kwargs: Any) -> NoReturn:
        raise AppendOnly("the audit trail cannot be updated")

    def delete(self) -> NoReturn:
        raise AppendOnly("nothing is deleted from the audit trail")


class AppendOnlyModel(models.Model):
    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly("the audit trail cannot be changed")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AppendOnly("nothing is deleted from the audit trail")


# Actors that have no name of their own.
ACTORS = {"system": _("the system"), "anonymous": _("somebody not signed in")}


class AuditEvent(AppendOnlyModel):
    """A past-tense fact. No foreign keys: the trail outlives everything that it speaks of."""

    class Outcome(models.TextChoices):
        SUCCESS = "success", _("Success")
        FAILURE = "failure", _("Failure")
        REFUSED = "refused", _("Refused")

    event_id = TextUUIDField(_("event"), unique=True, editable=False)
    at = models.DateTimeField(_("when"))
    retention_class = models.CharField(_("retention class"), max_length=20, default="standard")
    who_kind = models.CharField(_("kind of actor"), max_length=10)
    who_id = models.CharField(_("actor's id"), max_length=40, blank=True)
    who_label = models.CharField(_("who"), max_length=150, blank=True)
    on_behalf_of = models.CharField(_("on behalf of"), max_length=150, blank=True)
    what = models.CharField(_("what"), max_length=60)
    target_type = models.CharField(_("kind of object"), max_length=60, blank=True)
    target_id = models.CharField(_("object's id"), max_length=40, blank=True)
    target_label = models.CharField(_("object"), max_length=200, blank=True)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome, default=Outcome.SUCCESS)
    why = models.TextField(_("why"), blank=True)
    request_id = TextUUIDField(_("request"))
    parent_event_id = TextUUIDField(_("caused by event"), null=True, blank=True)
    ip = models.GenericIPAddressField(_("address"), null=True, blank=True)
    payload_digest = models.BinaryField(null=True, max_length=32)
    schema_v = models.PositiveSmallIntegerField()
    nonce = models.BinaryField(max_length=16)
    canon = models.TextField()
    row_hash = models.BinaryField(max_length=32)
    row_mac = models.BinaryField(max_length=32)

    class Meta:
        verbose_name = _("audit event")
        verbose_name_plural = _("audit events")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["who_id", "id"], name="audit_who"),
            models.Index(fields=["what", "id"], name="audit_what"),
            models.Index(fields=["target_type", "target_id", "id"], name="audit_target"),
            models.Index(fields=["request_id"], name="audit_request"),
            models.Index(
                fields=["parent_event_id"], name="audit_parent", condition=models.Q(parent_event_id__isnull=False)
            ),
            models.Index(fields=["at", "id"], name="audit_at"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(outcome__in=["success", "failure", "refused"]), name="audit_outcome_known"
            ),
            models.CheckConstraint(condition=models.Q(id__gt=0), name="audit_id_positive"),
        ]
        permissions = [("export_auditevent", "Can export audit events")]

    def __str__(self) -> str:
        return f"{localtime(self.at):%Y-%m-%d %H:%M:%S} · {self.what_label}"

    @property
    def what_label(self) -> str:
        return vocabulary.label(self.what)

    @property
    def who(self) -> str:
        """Who acted, and for whom, in words."""
        actor = str(ACTORS[self.who_kind]) if self.who_kind in ACTORS else self.who_label
        return f"{actor} ← {self.on_behalf_of}" if self.on_behalf_of else actor

    @property
    def facts(self) -> dict[str, Any]:
        """The details recorded with the event, read from the text that is hashed."""
        return dict(json.loads(self.canon)["facts"])


class AuditSeal(AppendOnlyModel):
    """A signature over a batch of events, chained to the seal before it."""

    n = models.PositiveBigIntegerField(_("number"), primary_key=True)
    sealed_at = models.DateTimeField(_("sealed"))
    size = models.PositiveIntegerField(_("events"))
    root = models.BinaryField(max_length=32)
    previous_hash = models.BinaryField(max_length=32)
    seal_hash = models.BinaryField(max_length=32)
    key_id = models.CharField(_("key"), max_length=16)
    signature = models.BinaryField(max_length=64)
    schema_v = models.PositiveSmallIntegerField()

    class Meta:
        verbose_name = _("audit seal")
        verbose_name_plural = _("audit seals")
        constraints = [models.CheckConstraint(condition=models.Q(n__gt=0), name="audit_seal_positive")]

    def __str__(self) -> str:
        return f"{self.n}"


class AuditLeaf(AppendOnlyModel):
    """Which event stands where under which seal. Survives the event, so that a gap can be told from a purge."""

    event_pk = models.PositiveBigIntegerField(primary_key=True)
    seal_n = models.PositiveBigIntegerField()
    position = models.PositiveIntegerField()
    row_hash = models.BinaryField(max_length=32)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["seal_n", "position"], name="leaf_place_once")]

    def __str__(self) -> str:
        return f"{self.seal_n}/{self.position}"


class AuditPayload(models.Model):
    """Details that may hold personal data, encrypted. The one part of an event that can be erased (PIPL art. 47).

    The event keeps the digest, so erasing breaks no proof, and what is shown can be checked against it.
    """

    event_pk = models.PositiveBigIntegerField(primary_key=True)
    body = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.event_pk}"
