from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.models.workflow import Workflow


class WorkflowVersion(models.Model):
    """A workflow's whole configuration at one time: its own fields, sources, cadences, audience, channels."""

    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(_("version"))
    at = models.DateTimeField(_("when"))
    who = models.CharField(_("who"), max_length=150, blank=True)
    request_id = models.UUIDField(_("request"))
    digest = models.CharField(max_length=64)
    content = models.JSONField()

    class Meta:
        verbose_name = _("workflow version")
        verbose_name_plural = _("workflow versions")
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["workflow", "number"], name="version_once")]

    def __str__(self) -> str:
        return f"{self.workflow} · {self.number}"
