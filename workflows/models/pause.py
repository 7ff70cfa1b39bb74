from django.conf import settings
from django.db import models
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from workflows.models.channel import Channel
from workflows.models.message import Message
from workflows.models.workflow import Workflow


class SendingPauseQuerySet(models.QuerySet["SendingPause"]):
    def in_force(self) -> "SendingPauseQuerySet":
        """Not lifted; the pause of one message ends with the message."""
        return self.filter(lifted_at=None, message__finished_at=None)

    def of(self, target: Workflow | Channel | Message | None) -> "SendingPauseQuerySet":
        """Those of this very target; None is everything."""
        named: dict[str, models.Model | None] = {"workflow": None, "channel": None, "message": None}
        if target is not None:
            named[str(target._meta.model_name)] = target
        return self.filter(**named)


class SendingPause(models.Model):
    """The kill switch: while it is in force nothing leaves; of one workflow, channel or message, or at all.

    Without a target it stops every send. Collecting, approvals and the trail go on.
    """

    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, null=True, blank=True, related_name="pauses")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, null=True, blank=True, related_name="pauses")
    message = models.ForeignKey(Message, on_delete=models.CASCADE, null=True, blank=True, related_name="pauses")
    reason = models.CharField(_("reason"), max_length=500)
    placed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", verbose_name=_("paused by")
    )
    placed_at = models.DateTimeField(_("paused"))
    lifted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("resumed by"),
    )
    lifted_at = models.DateTimeField(_("resumed"), null=True, blank=True)
    lift_reason = models.CharField(_("reason to resume"), max_length=500, blank=True)

    objects = SendingPauseQuerySet.as_manager()

    class Meta:
        verbose_name = _("pause of sending")
        verbose_name_plural = _("pauses of sending")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(workflow=None, channel=None)
                | models.Q(workflow=None, message=None)
                | models.Q(channel=None, message=None),
                name="pause_one_target",
            ),
            models.CheckConstraint(condition=~models.Q(reason=""), name="pause_has_reason"),
            models.UniqueConstraint(
                Coalesce("workflow", 0),
                Coalesce("channel", 0),
                Coalesce("message", 0),
                condition=models.Q(lifted_at=None),
                name="pause_once",
            ),
        ]
        permissions = [("pause_sending", "Can pause and resume sending")]

    def __str__(self) -> str:
        return str(self.target or _("all sending"))

    @property
    def target(self) -> Workflow | Channel | Message | None:
        """What is paused; None is everything."""
        return self.workflow or self.channel or self.message
