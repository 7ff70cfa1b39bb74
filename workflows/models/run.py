from django.conf import settings
from django.db import models
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _

from workflows.domain.states import RUN_ACTIVE, RunState
from workflows.models.workflow import Cadence, DigestKind, Workflow


class Run(models.Model):
    """One due instant of a workflow, carried out at most once."""

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="runs", verbose_name=_("workflow"))
    cadence = models.ForeignKey(
        Cadence, on_delete=models.SET_NULL, null=True, blank=True, related_name="runs", verbose_name=_("cadence")
    )
    run_key = models.CharField(
        max_length=80, unique=True, help_text=_("Cadence and due instant: two workers cannot both have it.")
    )
    digest_kind = models.CharField(_("kind of digest"), max_length=10, choices=DigestKind)
    due_at = models.DateTimeField(_("due"))
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        verbose_name=_("started by"),
    )
    state = models.CharField(_("state"), max_length=10, choices=RunState, default=RunState.QUEUED)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    outcome = models.TextField(_("outcome"), blank=True)
    notes = models.JSONField(_("notes"), default=list, blank=True)
    request_id = models.UUIDField(_("request"))

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering = ["-id"]
        indexes = [models.Index(fields=["state", "lease_until"], name="run_lease")]
        constraints = [
            models.UniqueConstraint(
                fields=["workflow"],
                condition=models.Q(state__in=sorted(RUN_ACTIVE)),
                name="run_one_active",
            ),
            models.CheckConstraint(condition=models.Q(state__in=RunState.values), name="run_state_known"),
        ]

    def __str__(self) -> str:
        return f"{self.workflow} · {localtime(self.due_at):%Y-%m-%d %H:%M}"
