from django.db import models
from django.utils.translation import gettext_lazy as _


class Source(models.Model):
    """Where items come from. ``kind`` names the adapter, ``config`` is validated by the adapter's form."""

    name = models.CharField(_("name"), max_length=120, unique=True)
    kind = models.CharField(_("kind"), max_length=40, default="feed")
    config = models.JSONField(_("configuration"), default=dict, blank=True)
    weight = models.SmallIntegerField(
        _("weight"), default=0, help_text=_("Points that every item of this source starts with (-50 to 50).")
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    state = models.JSONField(default=dict, blank=True, editable=False)
    fetched_at = models.DateTimeField(_("last read"), null=True, blank=True, editable=False)
    fetch_after = models.DateTimeField(_("not before"), null=True, blank=True, editable=False)
    failing_since = models.DateTimeField(_("failing since"), null=True, blank=True, editable=False)
    last_error = models.TextField(_("last error"), blank=True, editable=False)
    notes = models.JSONField(_("notes of the last read"), default=list, blank=True, editable=False)

    class Meta:
        verbose_name = _("source")
        verbose_name_plural = _("sources")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(weight__range=(-50, 50)),
                name="source_weight_bounded",
                violation_error_message=_("The weight lies between -50 and 50."),
            ),
        ]

    def __str__(self) -> str:
        return self.name
