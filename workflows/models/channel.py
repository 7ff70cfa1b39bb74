from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.models.secret import SecretRef


class Channel(models.Model):
    """A way out. ``kind`` names the adapter, ``config`` is validated by the adapter's form."""

    name = models.CharField(_("name"), max_length=120, unique=True)
    kind = models.CharField(_("kind"), max_length=40, default="wecom_robot")
    config = models.JSONField(_("configuration"), default=dict, blank=True)
    per_minute = models.PositiveSmallIntegerField(
        _("messages a minute"), default=20, validators=[MinValueValidator(1), MaxValueValidator(6000)]
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    broken_at = models.DateTimeField(_("out of order since"), null=True, blank=True, editable=False)
    broken_why = models.CharField(_("why"), max_length=300, blank=True, editable=False)

    class Meta:
        verbose_name = _("channel")
        verbose_name_plural = _("channels")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=models.Q(per_minute__range=(1, 6000)), name="channel_pace_bounded"),
        ]

    def __str__(self) -> str:
        return self.name


class ChannelSecret(models.Model):
    """Which secret a channel uses for one of its adapter's secret fields."""

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="secrets")
    field = models.CharField(max_length=40)
    secret = models.ForeignKey(SecretRef, on_delete=models.PROTECT, related_name="uses")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["channel", "field"], name="channel_secret_once")]

    def __str__(self) -> str:
        return f"{self.channel} · {self.field}"
