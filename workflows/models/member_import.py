from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.domain.states import IMPORT_CLOSED, ImportState
from workflows.models.audience import Audience


class ImportMode(models.TextChoices):
    ADD = "add", _("Add and change members; nobody is removed")
    REPLACE = "replace", _("Replace the members: whoever is not in the file is removed")


class MemberImport(models.Model):
    """A file of members on its way into an audience. ``content`` is kept until nothing more comes of it."""

    audience = models.ForeignKey(Audience, on_delete=models.CASCADE, related_name="imports")
    mode = models.CharField(_("mode"), max_length=10, choices=ImportMode)
    file_name = models.CharField(_("file"), max_length=120)
    sha256 = models.CharField("SHA-256", max_length=64)
    content = models.BinaryField()
    rows = models.PositiveIntegerField(_("rows"))
    added = models.PositiveIntegerField(_("to add"))
    changed = models.PositiveIntegerField(_("to change"))
    removed = models.PositiveIntegerField(_("to remove"))
    unchanged = models.PositiveIntegerField(_("unchanged"))
    first = models.JSONField(_("first rows"))
    # What was shown is what is done: every row that would be written, as a digest.
    plan_sha256 = models.CharField(max_length=64)
    state = models.CharField(_("state"), max_length=10, choices=ImportState, default=ImportState.CHECKED)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    problem = models.CharField(_("problem"), max_length=300, blank=True)
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", verbose_name=_("uploaded by")
    )
    uploaded_at = models.DateTimeField(_("uploaded"))
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    progress = models.PositiveIntegerField(_("rows checked"), default=0)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True, db_index=True)
    request_id = models.UUIDField(null=True, blank=True)

    class Meta:
        verbose_name = _("import of members")
        verbose_name_plural = _("imports of members")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=models.Q(state__in=ImportState.values), name="import_state_known"),
            models.CheckConstraint(condition=models.Q(mode__in=ImportMode.values), name="import_mode_known"),
        ]

    def __str__(self) -> str:
        return f"{self.audience} ← {self.file_name}"

    @property
    def is_closed(self) -> bool:
        return self.state in IMPORT_CLOSED
