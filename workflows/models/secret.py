from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _


class SecretRef(models.Model):
    """Where a secret is kept. The value itself never enters the database."""

    name = models.CharField(
        _("name"),
        max_length=100,
        unique=True,
        validators=[RegexValidator(r"^[a-z0-9][a-z0-9_.-]*$", _("Use lower-case letters, digits, dots and dashes."))],
        help_text=_("The name under which the store keeps the value."),
    )
    store = models.CharField(_("store"), max_length=30, default="local")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, verbose_name=_("owner"))
    rotated_at = models.DateTimeField(_("value stored at"), null=True, blank=True, editable=False)
    note = models.CharField(_("note"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("secret")
        verbose_name_plural = _("secrets")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
