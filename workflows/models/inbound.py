from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.domain.states import InboundState
from workflows.models.channel import Channel
from workflows.models.secret import SecretRef


class CallbackApp(models.Model):
    """A WeCom application or robot that calls us, at ``/wecom/<slug>/callback``."""

    slug = models.SlugField(_("name in the address"), max_length=40, unique=True)
    receive_id = models.CharField(
        _("receiver"), max_length=64, blank=True, help_text=_("The corp id; empty for an intelligent robot.")
    )
    token = models.ForeignKey(SecretRef, on_delete=models.PROTECT, related_name="+", verbose_name=_("Token"))
    aes_key = models.ForeignKey(SecretRef, on_delete=models.PROTECT, related_name="+", verbose_name="EncodingAESKey")
    channel = models.ForeignKey(
        Channel,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        limit_choices_to={"kind": "wecom_app"},
        verbose_name=_("channel"),
        help_text=_("The application's own channel: cards for officers leave by it."),
    )
    enabled = models.BooleanField(_("enabled"), default=True)

    class Meta:
        verbose_name = _("callback")
        verbose_name_plural = _("callbacks")
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class InboundEvent(models.Model):
    """What a callback brought, each once. ``seen`` tells a repetition, ``key`` the same event in another envelope."""

    app = models.ForeignKey(CallbackApp, on_delete=models.PROTECT, related_name="events", verbose_name=_("callback"))
    seen = models.CharField(max_length=64)
    key = models.CharField(max_length=64)
    kind = models.CharField(_("kind"), max_length=60)
    from_user = models.CharField(_("from"), max_length=64, blank=True)
    payload = models.JSONField(_("content"))
    received_at = models.DateTimeField(_("received"))
    request_id = models.UUIDField(_("request"))
    state = models.CharField(_("state"), max_length=10, choices=InboundState, default=InboundState.NEW)
    why = models.CharField(_("why"), max_length=300, blank=True)

    class Meta:
        verbose_name = _("inbound event")
        verbose_name_plural = _("inbound events")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["received_at"], name="inbound_new", condition=models.Q(state=InboundState.NEW)),
        ]
        constraints = [
            models.UniqueConstraint(fields=["app", "seen"], name="inbound_seen_once"),
            models.UniqueConstraint(fields=["app", "key"], name="inbound_once"),
            models.CheckConstraint(condition=models.Q(state__in=InboundState.values), name="inbound_state_known"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class WeComAccount(models.Model):
    """Who of ours somebody in WeCom is. Whoever is linked can decide there, so a link needs a second person."""

    user = models.ForeignKey("auth.User", on_delete=models.CASCADE, related_name="wecom", verbose_name=_("user"))
    app = models.ForeignKey(CallbackApp, on_delete=models.PROTECT, related_name="accounts", verbose_name=_("callback"))
    userid = models.CharField(_("userid in WeCom"), max_length=64)

    class Meta:
        verbose_name = _("WeCom account")
        verbose_name_plural = _("WeCom accounts")
        ordering = ["userid"]
        constraints = [
            models.UniqueConstraint(fields=["app", "userid"], name="wecom_account_once"),
            models.UniqueConstraint(fields=["app", "user"], name="wecom_user_once"),
        ]

    def __str__(self) -> str:
        return f"{self.userid} ({self.app_id})"


class ApprovalCard(models.Model):
    """A card about a request, sent to one officer. ``response_code`` lets it be updated once, within three days."""

    approval = models.ForeignKey("workflows.ApprovalRequest", on_delete=models.CASCADE, related_name="cards")
    account = models.ForeignKey(WeComAccount, on_delete=models.CASCADE, related_name="cards")
    task_id = models.CharField(max_length=128, unique=True)
    may_decide = models.BooleanField(default=False)
    response_code = models.CharField(max_length=200, blank=True)
    sent_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["approval", "account"], name="card_once")]

    def __str__(self) -> str:
        return self.task_id
