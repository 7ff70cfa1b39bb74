from collections import defaultdict
from collections.abc import Iterable

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows import channels
from workflows.domain.audience import Recipient
from workflows.models.channel import Channel
from workflows.registry import UnknownKind


class Audience(models.Model):
    """Who a message is for: its own members, and those of the audiences that it includes."""

    name = models.CharField(_("name"), max_length=120, unique=True)
    note = models.CharField(_("note"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("audience")
        verbose_name_plural = _("audiences")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class InclusionQuerySet(models.QuerySet["Inclusion"]):
    """How audiences hang together. There are few of them: one query reads all inclusions."""

    def below(self, *audiences: int) -> set[int]:
        """These audiences and whatever they include, however deep. A circle ends where it began."""
        return _reached(audiences, self.values_list("audience_id", "included_id"))

    def above(self, *audiences: int) -> set[int]:
        """These audiences and whatever includes them."""
        return _reached(audiences, self.values_list("included_id", "audience_id"))


def _reached(start: Iterable[int], steps: Iterable[tuple[int, int]]) -> set[int]:
    following = defaultdict(list)
    for one, other in steps:
        following[one].append(other)
    reached, ahead = set(start), list(start)
    while ahead:
        new = set(following[ahead.pop()]) - reached
        reached |= new
        ahead.extend(new)
    return reached


class Inclusion(models.Model):
    """One audience inside another: whoever belongs to it receives what is for the other."""

    audience = models.ForeignKey(Audience, on_delete=models.CASCADE, related_name="inclusions")
    included = models.ForeignKey(
        Audience, on_delete=models.PROTECT, related_name="included_in", verbose_name=_("includes")
    )

    objects = InclusionQuerySet.as_manager()

    class Meta:
        verbose_name = _("included audience")
        verbose_name_plural = _("included audiences")
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["audience", "included"],
                name="included_once",
                violation_error_message=_("This audience is included already."),
            ),
            models.CheckConstraint(
                condition=~models.Q(audience=models.F("included")),
                name="included_is_another",
                violation_error_message=_("An audience cannot include itself."),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.audience} ⊃ {self.included}"

    def clean(self) -> None:
        """A circle would do no harm when recipients are resolved, but nobody means one."""
        if self.audience_id and self.included_id and self.audience_id in Inclusion.objects.below(self.included_id):
            raise ValidationError(
                {"included": _("This would be a circle: that audience includes this one. Choose another.")}
            )


class AudienceMember(models.Model):
    """One address: a group that a robot speaks to, a department or tag, or a person."""

    audience = models.ForeignKey(Audience, on_delete=models.CASCADE, related_name="members", verbose_name=_("audience"))
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
        """The address in the one form that its channel knows, so that nobody is there twice."""
        adapter = adapter_of(self.channel) if self.channel_id else None
        if adapter is None:
            return
        if adapter.speaks_to_a_group and (self.address or not self.is_group):
            raise ValidationError(
                _("A group robot speaks to its whole group: leave the address empty and mark it as a group.")
            )
        try:
            self.address = adapter.clean_address(self.address)
        except ValueError as error:
            raise ValidationError({"address": str(error)}) from error
        if not self.is_group:
            self._clean_person(adapter)

    def _clean_person(self, adapter: channels.Channel) -> None:
        if adapter.is_group(self.address):
            raise ValidationError({"is_group": _("Many people are behind this address: mark it as a group.")})
        if not self.address or self.size not in (None, 1):
            raise ValidationError(_("A person needs an address and counts as 1."))
        self.size = 1

    def as_recipient(self) -> Recipient:
        """A "person" behind an address of many would be a way round the gate: all of them read it.

        So they count as a group of unknown size; and so does whatever is behind an address that a robot does not have.
        """
        adapter = adapter_of(self.channel)
        stands_for_many = adapter is None or adapter.is_group(self.address)
        has_no_address = adapter is not None and adapter.speaks_to_a_group
        is_misdeclared = stands_for_many and (not self.is_group or (has_no_address and self.address != ""))
        return Recipient(
            channel_id=self.channel_id,
            channel=self.channel.name,
            address=self.address,
            label=self.label,
            is_group=self.is_group or stands_for_many,
            size=None if is_misdeclared else self.size,
        )


def adapter_of(channel: Channel) -> channels.Channel | None:
    """None for a kind that this version does not have: sending through it will say so."""
    try:
        return channels.registry.get(channel.kind)
    except UnknownKind:
        return None
