"""What decides how long an event is kept, and what remains of one that is gone."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from audit.models.fields import TextUUIDField
from audit.models.trail import AppendOnlyModel


class AuditHold(models.Model):
    """A legal hold: events that match all of its criteria are not purged, whatever the policy says.

    The criteria never change and the hold never goes away; it is released by two persons (a trigger sees to both).
    """

    who = models.CharField(_("who"), max_length=150, blank=True, help_text=_("Acted, or was acted for."))
    target_type = models.CharField(_("kind of object"), max_length=60, blank=True)
    target_id = models.CharField(_("object's id"), max_length=40, blank=True)
    request_id = TextUUIDField(_("request"), null=True, blank=True)
    starts_at = models.DateTimeField(_("from"), null=True, blank=True)
    ends_at = models.DateTimeField(_("until"), null=True, blank=True)
    reason = models.CharField(_("reason"), max_length=500)
    owner = models.CharField(_("owner"), max_length=150, help_text=_("Who answers for it."))
    placed_by = models.CharField(_("placed by"), max_length=150, editable=False)
    placed_at = models.DateTimeField(_("placed"), editable=False)
    release_asked_by = models.CharField(_("release asked by"), max_length=150, blank=True, editable=False)
    # The account itself decides who is another person; a name can be changed.
    release_asked_by_pk = models.BigIntegerField(null=True, blank=True, editable=False)
    release_asked_at = models.DateTimeField(null=True, blank=True, editable=False)
    release_reason = models.CharField(_("reason for release"), max_length=500, blank=True, editable=False)
    released_by = models.CharField(_("released by"), max_length=150, blank=True, editable=False)
    released_by_pk = models.BigIntegerField(null=True, blank=True, editable=False)
    released_at = models.DateTimeField(_("released"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("legal hold")
        verbose_name_plural = _("legal holds")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(who="", target_type="", request_id=None, starts_at=None, ends_at=None),
                name="hold_names_something",
            ),
            models.CheckConstraint(
                condition=models.Q(target_id="") | ~models.Q(target_type=""), name="hold_id_has_kind"
            ),
            models.CheckConstraint(condition=~models.Q(reason=""), name="hold_has_reason"),
            models.CheckConstraint(
                condition=models.Q(released_at=None)
                | (
                    ~models.Q(released_by="")
                    & ~models.Q(release_asked_by="")
                    & ~models.Q(release_reason="")
                    & models.Q(released_by_pk__isnull=False, release_asked_by_pk__isnull=False)
                    & ~models.Q(released_by_pk=models.F("release_asked_by_pk"))
                ),
                name="hold_released_by_two",
            ),
        ]
        permissions = [("release_audithold", "Can ask for and confirm the release of legal holds")]

    def __str__(self) -> str:
        return f"{self.pk}: {self.reason[:60]}"


class AuditPurgeGrant(AppendOnlyModel):
    """Leave to delete the events of one archive file, which was verified readable. Recorded, and so sealed, too.

    ``events_digest``: sha256 over ``pk:row_hash`` lines in the order of the keys; it binds the rows that may go.
    """

    n = models.PositiveBigIntegerField(_("number"), primary_key=True)
    granted_at = models.DateTimeField(_("granted"))
    before = models.DateTimeField(_("older than"))
    events = models.PositiveIntegerField(_("events"))
    events_digest = models.BinaryField(max_length=32)
    first_pk = models.PositiveBigIntegerField()
    last_pk = models.PositiveBigIntegerField()
    first_at = models.DateTimeField(_("from"))
    last_at = models.DateTimeField(_("until"), db_index=True)
    archive = models.CharField(_("archive file"), max_length=100, unique=True)
    archive_sha256 = models.BinaryField(max_length=32)

    class Meta:
        verbose_name = _("purge grant")
        verbose_name_plural = _("purge grants")
        ordering = ["-n"]

    def __str__(self) -> str:
        return f"{self.n}"


class AuditPurge(AppendOnlyModel):
    """This event was deleted under that grant. Written in the transaction that deletes it."""

    event_pk = models.PositiveBigIntegerField(primary_key=True)
    grant_n = models.PositiveBigIntegerField(db_index=True)

    def __str__(self) -> str:
        return f"{self.event_pk} ({self.grant_n})"
