from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows import channels
from workflows.domain.audience import Recipient
from workflows.models.channel import Channel


class Audience(models.Model):
    """Who a message is for."""

    name = models.CharField(_("name"), max_length=120, unique=True)
    note = models.CharField(_("note"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("audience")
        verbose_name_plural = _("audiences")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def resolve(self) -> list[Recipient]:
        """The recipients as they are now, each once, in a stable order."""
        members = self.members.select_related("channel").order_by("channel_id", "address")
        return [member.as_recipient() for member in members]


class AudienceMember(models.Model):
    """One address: a group that a robot speaks to, or a person."""

    audience = models.ForeignKey(Audience, on_delete=models.CASCADE, related_name="members")
    channel = models.ForeignKey(Channel, on_delete=models.PROTECT, verbose_name=_("channel"))
    label = models.CharField(_("name"), max_length=120)
    address = models.CharField(
        _("address"),
        max_length=254,
        blank=True,
        help_text=_("Empty for a group robot: the robot's own group receives."),
    )
    is_group = models.BooleanField(_("is a group"), default=True)
    size = models.PositiveIntegerField(
        _("people"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(10_000_000)],
        help_text=_("How many people are in the group. Empty means unknown, and unknown counts as large."),
    )

    class Meta:
        verbose_name = _("member")
        verbose_name_plural = _("members")
        ordering = ["label"]
        constraints = [
            models.UniqueConstraint(
                fields=["audience", "channel", "address"],
                name="member_once",
                violation_error_message=_("This address is already in the audience."),
            ),
            models.CheckConstraint(
                condition=models.Q(size__isnull=True) | models.Q(size__gte=1),
                name="member_size_positive",
                violation_error_message=_("A group has at least one person."),
            ),
            models.CheckConstraint(
                condition=models.Q(is_group=True) | (~models.Q(address="") & models.Q(size=1)),
                name="person_has_address",
                violation_error_message=_("A person needs an address and counts as 1."),
            ),
        ]

    def __str__(self) -> str:
        return self.label

    def clean(self) -> None:
        if self.channel_id and self._channel_is_a_group() and (self.address or not self.is_group):
            raise ValidationError(
                _("A group robot speaks to its whole group: leave the address empty and mark it as a group.")
            )

    def _channel_is_a_group(self) -> bool:
        return any(kind.kind == self.channel.kind and kind.speaks_to_a_group for kind in channels.registry)

    def as_recipient(self) -> Recipient:
        """A "person" behind a group robot would be a way round the gate: the whole group reads it, of unknown size."""
        if self._channel_is_a_group() and (self.address or not self.is_group):
            return Recipient(
                channel_id=self.channel_id,
                channel=self.channel.name,
                address=self.address,
                label=self.label,
                is_group=True,
                size=None,
            )
        return Recipient(
            channel_id=self.channel_id,
            channel=self.channel.name,
            address=self.address,
            label=self.label,
            is_group=self.is_group,
            size=self.size,
        )
