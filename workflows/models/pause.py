from django.conf import settings
from django.db import models
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from workflows.models.channel import Channel
from workflows.models.message import Message
from workflows.models.workflow import Workflow


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
        return str(self.workflow or self.channel or self.message or _("all sending"))
