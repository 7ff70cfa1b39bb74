from django.db import models
from django.utils.translation import gettext_lazy as _


class AuditForwarder(models.Model):
    """How far one receiver outside has been told: every seal up to ``seal_n``."""

    name = models.CharField(_("receiver"), max_length=20, primary_key=True)
    seal_n = models.PositiveBigIntegerField(_("seal"), default=0)
    lease_until = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(_("last sent"), null=True)
    retry_at = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0)
    problem = models.CharField(_("problem"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("forwarder")
        verbose_name_plural = _("forwarders")

    def __str__(self) -> str:
        return self.name
