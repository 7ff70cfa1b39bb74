from datetime import datetime

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.models.workflow import Workflow


class StandingApprovalQuerySet(models.QuerySet["StandingApproval"]):
    def in_force(self, now: datetime) -> "StandingApprovalQuerySet":
        return self.filter(granted_at__isnull=False, ended_at=None, valid_until__gt=now)


class StandingApproval(models.Model):
    """A recurring workflow, approved once for a period and within bounds.

    It covers exactly the configuration that was shown (``configuration_digest``): any change ends it.
    """

    workflow = models.ForeignKey(
        Workflow, on_delete=models.PROTECT, related_name="standing_approvals", verbose_name=_("workflow")
    )
    configuration_digest = models.CharField(max_length=64, editable=False)
    messages_per_day = models.PositiveSmallIntegerField(
        _("messages a day"), default=8, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )
    valid_until = models.DateTimeField(_("valid until"))
    reason = models.CharField(_("reason"), max_length=500)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", verbose_name=_("asked by"), editable=False
    )
    asked_at = models.DateTimeField(_("asked"), editable=False)
    granted_at = models.DateTimeField(_("granted"), null=True, blank=True, editable=False)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True, editable=False)
    ended_why = models.CharField(_("why it ended"), max_length=300, blank=True, editable=False)

    objects = StandingApprovalQuerySet.as_manager()

    class Meta:
        verbose_name = _("standing approval")
        verbose_name_plural = _("standing approvals")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["workflow"],
                condition=models.Q(ended_at=None),
                name="standing_one_open",
                violation_error_message=_("This workflow already has a standing approval, or has asked for one."),
            ),
            models.CheckConstraint(condition=models.Q(messages_per_day__gte=1), name="standing_bounded"),
            models.CheckConstraint(
                condition=models.Q(ended_at=None) | ~models.Q(ended_why=""), name="standing_end_has_reason"
            ),
        ]
        permissions = [("revoke_standingapproval", "Can revoke standing approvals")]

    def __str__(self) -> str:
        return f"{self.workflow}"
