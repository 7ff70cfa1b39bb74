from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows import channels


class Suppression(models.Model):
    """An address that is never contacted, whichever audience names it. It is made and lifted, never edited."""

    channel_kind = models.CharField(
        _("channel"), max_length=40, blank=True, help_text=_("Empty: through any kind of channel.")
    )
    address = models.CharField(
        _("address"), max_length=254, help_text=_("Capital and small letters are the same here.")
    )
    reason = models.CharField(_("reason"), max_length=300)

    class Meta:
        verbose_name = _("suppressed address")
        verbose_name_plural = _("suppressed addresses")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["address", "channel_kind"],
                name="suppressed_once",
                violation_error_message=_("This address is suppressed already."),
            ),
            models.CheckConstraint(
                condition=~models.Q(address=""),
                name="suppression_has_address",
                violation_error_message=_("Write the address that is never to be contacted."),
            ),
        ]

    def __str__(self) -> str:
        return self.address

    def clean(self) -> None:
        self.address = self.address.strip()
        if self.channel_kind:
            try:
                self.address = channels.registry.get(self.channel_kind).clean_address(self.address)
            except ValueError as error:
                raise ValidationError({"address": str(error)}) from error
        self.address = folded(self.address)


def folded(address: str) -> str:
    """As addresses are compared with this list. It errs on the side of silence: Bob@… and bob@… are one."""
    return address.strip().casefold()
