from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.domain.content import Attached, Part
from workflows.domain.states import DELIVERY_DEAD, DELIVERY_DUE, DeliveryState
from workflows.models.channel import Channel
from workflows.models.message import Message


class MessagePart(models.Model):
    """One payload of a message as some of its channels send it; stored once, however many receive it."""

    message = models.ForeignKey(Message, on_delete=models.PROTECT, related_name="parts")
    kind = models.CharField(_("kind"), max_length=40)
    rendition = models.PositiveSmallIntegerField()
    number = models.PositiveSmallIntegerField(_("part"))
    of = models.PositiveSmallIntegerField(_("parts"))
    form = models.CharField(_("form"), max_length=10)
    text = models.TextField(_("content"))
    attachments = models.JSONField(default=list)

    class Meta:
        ordering = ["rendition", "number"]
        constraints = [models.UniqueConstraint(fields=["message", "rendition", "number"], name="part_once")]

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def as_part(self) -> Part:
        """What an adapter sends."""
        return Part(
            number=self.number,
            of=self.of,
            text=self.text,
            form=self.form,
            attachments=tuple(Attached(**attached) for attached in self.attachments),
        )


class Delivery(models.Model):
    """One part of one message to one recipient, and what became of it."""

    message = models.ForeignKey(Message, on_delete=models.PROTECT, related_name="deliveries", verbose_name=_("message"))
    channel = models.ForeignKey(Channel, on_delete=models.PROTECT, related_name="deliveries", verbose_name=_("channel"))
    channel_fingerprint = models.CharField(max_length=64, editable=False)
    address = models.CharField(_("address"), max_length=254, blank=True)
    recipient = models.CharField(_("recipient"), max_length=120)
    part = models.ForeignKey(MessagePart, on_delete=models.PROTECT, related_name="+", verbose_name=_("part"))
    state = models.CharField(_("state"), max_length=10, choices=DeliveryState, default=DeliveryState.QUEUED)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    # Those made before a person last let it be sent again: it begins anew, and is no repetition to the receiver.
    attempts_before = models.PositiveSmallIntegerField(default=0, editable=False)
    # Set exactly while it is due, so that one index leads to the next one at once, however many have been sent.
    not_before = models.DateTimeField(_("not before"), null=True, blank=True)
    # Rows of one parcel that has to be repeated as it was; whoever repeats it takes all of them.
    parcel = models.UUIDField(null=True, blank=True, editable=False)
    first_tried_at = models.DateTimeField(null=True, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    recalled_at = models.DateTimeField(_("taken back"), null=True, blank=True)
    code = models.CharField(_("code"), max_length=40, blank=True)
    detail = models.CharField(_("detail"), max_length=500, blank=True)
    receipt = models.CharField(_("receipt"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["message", "not_before", "id"], name="delivery_due"),
            models.Index(fields=["message", "state"], name="delivery_state"),
            models.Index(fields=["channel", "address", "sent_at"], name="delivery_sent_to"),
            models.Index(fields=["-id"], name="delivery_dead", condition=models.Q(state__in=sorted(DELIVERY_DEAD))),
            models.Index(
                fields=["lease_until"], name="delivery_lease", condition=models.Q(state=DeliveryState.SENDING)
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["message", "channel", "address", "part"], name="delivery_once"),
            models.CheckConstraint(condition=models.Q(state__in=DeliveryState.values), name="delivery_state_known"),
            models.CheckConstraint(
                condition=models.Q(state__in=sorted(DELIVERY_DUE), not_before__isnull=False)
                | (~models.Q(state__in=sorted(DELIVERY_DUE)) & models.Q(not_before__isnull=True)),
                name="delivery_due_has_time",
            ),
        ]
        permissions = [("settle_delivery", "Can settle deliveries whose outcome is unknown")]

    def __str__(self) -> str:
        return f"{self.recipient} ({self.part})"


class DeadLetterManager(models.Manager["DeadLetter"]):
    def get_queryset(self) -> models.QuerySet["DeadLetter"]:
        return super().get_queryset().filter(state__in=sorted(DELIVERY_DEAD))


class DeadLetter(Delivery):
    """A delivery that failed, was given up, or may have arrived."""

    objects = DeadLetterManager()  # type: ignore[misc]  # a manager is set by its class

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")


class DeliveryAttempt(models.Model):
    """One try. Written before the call, completed after it: a crash between leaves a trace."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="tries")
    number = models.PositiveSmallIntegerField(_("number"))
    started_at = models.DateTimeField(_("started"))
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    outcome = models.CharField(_("outcome"), max_length=10, blank=True)
    code = models.CharField(_("code"), max_length=40, blank=True)
    detail = models.CharField(_("detail"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["delivery", "number"], name="attempt_once")]

    def __str__(self) -> str:
        return f"{self.number}"
