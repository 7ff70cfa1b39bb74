from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.models.secret import SecretRef


class Channel(models.Model):
    """A way out. ``kind`` names the adapter, ``config`` is validated by the adapter's form."""

    name = models.CharField(_("name"), max_length=120, unique=True)
    kind = models.CharField(_("kind"), max_length=40, default="wecom_robot")
    config = models.JSONField(_("configuration"), default=dict, blank=True)
    per_minute = models.PositiveIntegerField(
        _("messages a minute"), default=20, validators=[MinValueValidator(1), MaxValueValidator(60_000)]
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    broken_at = models.DateTimeField(_("out of order since"), null=True, blank=True, editable=False)
    # A channel that is out of order is tried again with one call, later and later; WeCom blocks whoever insists.
    probe_at = models.DateTimeField(_("tried again at"), null=True, blank=True, editable=False)
    broken_why = models.CharField(_("why"), max_length=300, blank=True, editable=False)

    class Meta:
        verbose_name = _("channel")
        verbose_name_plural = _("channels")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=models.Q(per_minute__range=(1, 60_000)), name="channel_pace_bounded"),
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


class AccessToken(models.Model):
    """What a receiver gave out for a channel's secrets, encrypted; all processes share it."""

    channel = models.OneToOneField(Channel, on_delete=models.CASCADE, related_name="access_token")
    value = models.BinaryField(default=b"")
    expires_at = models.DateTimeField(null=True)
    fetching_until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.channel}"
