from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.domain.content import Attached
from workflows.models.message import Message


class Attachment(models.Model):
    """A file that goes with a message. It is kept in the database: every server has it, and so has every backup."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="attachments")
    name = models.CharField(_("name"), max_length=120)
    media_type = models.CharField(_("type"), max_length=100)
    size = models.PositiveIntegerField(_("bytes"))
    sha256 = models.CharField("SHA-256", max_length=64, db_index=True)
    content = models.BinaryField()

    class Meta:
        verbose_name = _("attachment")
        verbose_name_plural = _("attachments")
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["message", "sha256"], name="attachment_once")]

    def __str__(self) -> str:
        return self.name

    def as_attached(self) -> Attached:
        return Attached(name=self.name, media_type=self.media_type, size=self.size, sha256=self.sha256)
