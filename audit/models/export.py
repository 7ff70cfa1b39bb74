"""Exports that are prepared in the background, and reports that recur."""

import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from audit.models.fields import TextUUIDField


class ExportForm(models.TextChoices):
    CSV = "csv", "CSV"
    JSONL = "jsonl", "JSON Lines"
    PACKAGE = "zip", _("CSV with proofs (ZIP)")


class ExportState(models.TextChoices):
    WAITING = "waiting", _("Waiting for approval")
    QUEUED = "queued", _("Queued")
    RUNNING = "running", _("Being prepared")
    READY = "ready", _("Ready")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")
    EXPIRED = "expired", _("Expired")


class AuditExport(models.Model):
    """One file that is being prepared, or waits for its owner. The row is the truth; a queue message only a hint."""

    key = TextUUIDField(default=uuid.uuid4, unique=True, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", verbose_name=_("owner")
    )
    query = models.TextField(_("search"), blank=True, help_text=_("As in the address of the list."))
    form = models.CharField(_("format"), max_length=5, choices=ExportForm)
    bom = models.BooleanField(_("for Excel (byte order mark)"), default=False)
    columns = models.JSONField(_("columns"), default=list)
    reason = models.CharField(_("reason"), max_length=500)
    state = models.CharField(_("state"), max_length=9, choices=ExportState, default=ExportState.QUEUED)
    request_id = TextUUIDField(_("request"))
    started_event_id = TextUUIDField(null=True)
    below_pk = models.PositiveBigIntegerField(null=True, help_text="Events from this key on are not in it.")
    next_below = models.PositiveBigIntegerField(null=True, help_text="Where to go on: keys below this.")
    bytes_done = models.PositiveBigIntegerField(default=0)
    proofs_done = models.PositiveBigIntegerField(default=0, help_text="Bytes of the proofs, in a package.")
    rows_done = models.PositiveBigIntegerField(_("rows"), default=0)
    unsealed = models.PositiveBigIntegerField(_("not sealed when exported"), default=0)
    first_seal = models.PositiveBigIntegerField(null=True)
    last_seal = models.PositiveBigIntegerField(null=True)
    rows_expected = models.PositiveBigIntegerField(null=True)
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(_("asked"))
    finished_at = models.DateTimeField(_("finished"), null=True)
    expires_at = models.DateTimeField(_("kept until"), null=True)
    sha256 = models.CharField(max_length=64, blank=True)
    size = models.PositiveBigIntegerField(_("bytes"), null=True)
    problem = models.CharField(_("problem"), max_length=300, blank=True)
    copy_as = models.CharField(max_length=150, blank=True, help_text="Its name in the folder of reports.")

    class Meta:
        verbose_name = _("export")
        verbose_name_plural = _("exports")
        ordering = ["-id"]
        indexes = [models.Index(fields=["state", "lease_until"], name="export_due")]
        constraints = [
            models.CheckConstraint(condition=models.Q(state__in=ExportState.values), name="export_state_known"),
            models.CheckConstraint(condition=models.Q(form__in=ExportForm.values), name="export_form_known"),
            models.CheckConstraint(condition=~models.Q(reason=""), name="export_has_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.pk}: {self.reason[:60]}"


class Period(models.TextChoices):
    DAY = "day", _("Every day")
    WEEK = "week", _("Every week, Mondays")
    MONTH = "month", _("Every month, on the first")


class AuditReport(models.Model):
    """An export that recurs: what happened in the period before, in a folder on the server."""

    name = models.CharField(_("name"), max_length=80, unique=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", verbose_name=_("owner"), editable=False
    )
    query = models.TextField(
        _("search"), blank=True, help_text=_("As in the address of the list, without the times; empty: everything.")
    )
    form = models.CharField(_("format"), max_length=5, choices=ExportForm, default=ExportForm.CSV)
    reason = models.CharField(_("reason"), max_length=500)
    period = models.CharField(_("how often"), max_length=5, choices=Period, default=Period.WEEK)
    enabled = models.BooleanField(_("switched on"), default=True)
    next_at = models.DateTimeField(_("next"), null=True, editable=False, db_index=True)

    class Meta:
        verbose_name = _("scheduled report")
        verbose_name_plural = _("scheduled reports")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=models.Q(period__in=Period.values), name="report_period_known"),
        ]

    def __str__(self) -> str:
        return self.name
