from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.models.source import Source


class Item(models.Model):
    """One thing that a source published, normalised."""

    source = models.ForeignKey(Source, on_delete=models.PROTECT, related_name="items", verbose_name=_("source"))
    content_hash = models.CharField(max_length=64)
    story_hash = models.CharField(max_length=64, db_index=True)
    external_id = models.TextField(blank=True)
    url = models.TextField(_("link"), blank=True)
    title = models.CharField(_("title"), max_length=300)
    summary = models.TextField(_("summary"), blank=True)
    author = models.CharField(_("author"), max_length=200, blank=True)
    published_at = models.DateTimeField(_("published"), null=True, blank=True)
    first_seen_at = models.DateTimeField(_("first seen"))
    edited_at = models.DateTimeField(_("edited"), null=True, blank=True)

    class Meta:
        verbose_name = _("item")
        verbose_name_plural = _("items")
        ordering = ["-id"]
        indexes = [models.Index(fields=["source", "first_seen_at"], name="item_seen")]
        constraints = [models.UniqueConstraint(fields=["source", "content_hash"], name="item_once")]

    def __str__(self) -> str:
        return self.title
