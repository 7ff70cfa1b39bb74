from django.db import models
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _

from workflows.domain.states import OfferState
from workflows.models.item import Item
from workflows.models.run import Run
from workflows.models.workflow import DigestKind, Workflow


class Digest(models.Model):
    """What one run curated. ``content`` validates against docs/contracts/digest.v1.json."""

    run = models.OneToOneField(Run, on_delete=models.PROTECT, related_name="digest", verbose_name=_("run"))
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="digests", verbose_name=_("workflow"))
    kind = models.CharField(_("kind"), max_length=10, choices=DigestKind)
    content = models.JSONField(_("content"))
    created_at = models.DateTimeField(_("created"))

    class Meta:
        verbose_name = _("digest")
        verbose_name_plural = _("digests")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.workflow} · {self.get_kind_display()} · {localtime(self.created_at):%Y-%m-%d %H:%M}"


class DigestEntry(models.Model):
    """An item that a digest offers. Seen is not delivered: ``state`` follows the message's fate."""

    digest = models.ForeignKey(Digest, on_delete=models.CASCADE, related_name="entries")
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT)
    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="offers")
    kind = models.CharField(max_length=10, choices=DigestKind)
    state = models.CharField(_("state"), max_length=10, choices=OfferState, default=OfferState.OFFERED)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["digest", "item"], name="entry_once"),
            models.UniqueConstraint(
                fields=["workflow", "item"],
                condition=models.Q(
                    kind=DigestKind.UPDATE,
                    state__in=[OfferState.OFFERED, OfferState.SETTLED, OfferState.DISMISSED],
                ),
                name="entry_offered_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.digest_id}: {self.item_id}"
