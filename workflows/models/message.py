from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.domain.states import MessageState, Priority
from workflows.models.audience import Audience
from workflows.models.digest import Digest
from workflows.models.workflow import Workflow


class Message(models.Model):
    """What is to be said to an audience: a digest, or something written by hand. Both take the same path."""

    digest = models.OneToOneField(
        Digest,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="message",
        verbose_name=_("digest"),
    )
    workflow = models.ForeignKey(
        Workflow,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="messages",
        verbose_name=_("workflow"),
    )
    subject = models.CharField(_("subject"), max_length=200)
    body = models.TextField(
        _("body"),
        blank=True,
        max_length=50_000,
        help_text=_("Markdown as WeCom shows it: headings, bold, links, quotes. An empty line starts a new block."),
    )
    audience = models.ForeignKey(Audience, on_delete=models.PROTECT, verbose_name=_("audience"))
    reason = models.CharField(
        _("reason"),
        max_length=500,
        help_text=_("Why this is sent; the officer reads it and the trail keeps it."),
    )
    send_at = models.DateTimeField(
        _("send at"), null=True, blank=True, help_text=_("Empty: as soon as it is approved.")
    )
    valid_until = models.DateTimeField(
        _("not after"), null=True, blank=True, help_text=_("What has not left by then is not sent any more.")
    )
    urgent = models.BooleanField(
        _("urgent"), default=False, help_text=_("Goes before everything else that waits to be sent.")
    )
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="+",
        verbose_name=_("author"),
        editable=False,
    )
    state = models.CharField(
        _("state"), max_length=12, choices=MessageState, default=MessageState.DRAFT, editable=False
    )
    gate = models.TextField(_("gate"), blank=True, editable=False)
    # True until the policy was asked and said otherwise: what nobody judged does not leave.
    needs_approval = models.BooleanField(_("needs approval"), default=True, editable=False)
    priority = models.PositiveSmallIntegerField(choices=Priority, default=Priority.MASS, editable=False)
    content_digest = models.CharField(max_length=64, blank=True, editable=False)
    standing_approval = models.ForeignKey(
        "workflows.StandingApproval",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        editable=False,
        related_name="messages",
        verbose_name=_("standing approval"),
    )
    copy_of = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, editable=False, verbose_name=_("written anew from")
    )
    people = models.PositiveBigIntegerField(_("people"), null=True, blank=True, editable=False)
    request_id = models.UUIDField(_("request"), null=True, blank=True, editable=False)
    on_behalf_of = models.CharField(max_length=150, blank=True, editable=False)
    next_attempt_at = models.DateTimeField(null=True, blank=True, editable=False, db_index=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    released_at = models.DateTimeField(_("released"), null=True, blank=True, editable=False)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["state", "priority", "id"], name="message_by_priority"),
        ]
        constraints = [
            models.CheckConstraint(condition=models.Q(state__in=MessageState.values), name="message_state_known"),
            models.CheckConstraint(
                condition=models.Q(digest__isnull=False) | ~models.Q(body=""), name="message_says_something"
            ),
        ]
        permissions = [("submit_message", "Can submit messages for sending")]

    def __str__(self) -> str:
        return self.subject
