from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.models.approval import ApprovalRequest


class Snapshot(models.Model):
    """Objects as they were right before a request was carried out: what a rollback restores.

    ``before``: rows as ``workflows.services.rows`` writes them. ``created``: ``[model, key]`` of what the request made.
    """

    request = models.OneToOneField(ApprovalRequest, on_delete=models.PROTECT, related_name="snapshot")
    taken_at = models.DateTimeField(_("taken"))
    before = models.JSONField()
    created = models.JSONField(default=list)

    class Meta:
        verbose_name = _("snapshot")
        verbose_name_plural = _("snapshots")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.request}"
