from django.db import models
from django.utils.translation import gettext_lazy as _


class PolicyOverride(models.Model):
    """One key of the policy that the admin sets instead of the file. Every change of one is approved first."""

    key = models.CharField(_("key"), max_length=100, unique=True)
    value = models.JSONField(_("value"), null=True, blank=True)
    note = models.CharField(_("note"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("policy override")
        verbose_name_plural = _("policy")
        ordering = ["key"]

    def __str__(self) -> str:
        return self.key


class PolicyFile(models.Model):
    """A policy file as it was found on the disk. Until it is acknowledged, whatever it relaxes is not in force."""

    sha256 = models.CharField(max_length=64, unique=True)
    values = models.JSONField(_("values"))
    found_at = models.DateTimeField(_("found"))
    relaxes = models.JSONField(
        _("relaxes"), default=list, blank=True, help_text="What a second person was shown and acknowledged."
    )
    acknowledged_at = models.DateTimeField(_("acknowledged"), null=True, blank=True)

    class Meta:
        verbose_name = _("policy file")
        verbose_name_plural = _("policy files")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.sha256[:12]
