from datetime import datetime

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from workflows.domain.states import APPROVAL_OPEN, ApprovalState, Verdict


class ApprovalRequestQuerySet(models.QuerySet["ApprovalRequest"]):
    def pending(self, now: datetime) -> "ApprovalRequestQuerySet":
        return self.filter(state=ApprovalState.PENDING, expires_at__gt=now)

    def expired(self, now: datetime) -> "ApprovalRequestQuerySet":
        """Past their time but not yet marked; ``now == expires_at`` is expired."""
        return self.filter(state=ApprovalState.PENDING, expires_at__lte=now)


class ApprovalRequest(models.Model):
    """A risky action that waits for a second person.

    ``content_digest`` binds the decision to what was shown: ``preview`` is the shown content itself. Who asked
    and who wrote can never decide; database triggers hold this too (workflows.triggers).
    """

    action = models.CharField(_("action"), max_length=40)
    subject_type = models.CharField(max_length=60)
    subject_id = models.CharField(max_length=40)
    subject_label = models.CharField(_("subject"), max_length=200)
    content_digest = models.CharField(_("content digest"), max_length=64)
    preview = models.JSONField(_("preview"))
    payload = models.JSONField(default=dict, help_text="What execution needs and nobody is shown, such as hashes.")
    size = models.PositiveBigIntegerField(_("reach"), null=True, blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", verbose_name=_("requested by")
    )
    authored_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", verbose_name=_("written by")
    )
    reason = models.CharField(_("reason"), max_length=500)
    requested_at = models.DateTimeField(_("requested"))
    expires_at = models.DateTimeField(_("expires"))
    # The rule as the policy had it when this was asked for: what is tightened later does not loosen what waits.
    quorum = models.PositiveSmallIntegerField(_("approvals needed"), default=1)
    eligible_group = models.CharField(
        _("decided by"), max_length=150, blank=True, help_text=_("Empty: whoever may decide.")
    )
    barred = models.JSONField(default=list, help_text="Accounts that may not decide, because it is about them.")
    reason_to_approve = models.BooleanField(_("approving needs a reason"), default=False)
    delay_minutes = models.PositiveIntegerField(_("cooling-off (minutes)"), default=0)
    business_hours_only = models.BooleanField(_("in business hours only"), default=False)
    execute_at = models.DateTimeField(_("carried out"), null=True, blank=True)
    remind_at = models.DateTimeField(null=True, blank=True)
    escalate_to = models.CharField(_("escalates to"), max_length=150, blank=True)
    escalated_at = models.DateTimeField(_("escalated"), null=True, blank=True)
    previous = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="following", verbose_name=_("follows")
    )
    state = models.CharField(_("state"), max_length=12, choices=ApprovalState, default=ApprovalState.PENDING)
    closed_at = models.DateTimeField(_("closed"), null=True, blank=True)
    outcome = models.CharField(_("outcome"), max_length=300, blank=True)
    request_id = models.UUIDField(_("request"))
    # Break-glass: carried out by one person, and open until another one has looked at it.
    break_glass_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("broke the glass"),
    )
    break_glass_reason = models.CharField(_("break-glass reason"), max_length=500, blank=True)
    reviewed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("reviewed by"),
    )
    reviewed_at = models.DateTimeField(_("reviewed"), null=True, blank=True)
    review = models.CharField(_("review"), max_length=500, blank=True)

    objects = ApprovalRequestQuerySet.as_manager()

    class Meta:
        verbose_name = _("approval request")
        verbose_name_plural = _("approval requests")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["state", "expires_at"], name="approval_queue"),
            models.Index(fields=["subject_type", "subject_id"], name="approval_subject"),
            models.Index(fields=["execute_at"], name="approval_due", condition=models.Q(state=ApprovalState.APPROVED)),
            models.Index(fields=["remind_at"], name="approval_remind", condition=models.Q(state=ApprovalState.PENDING)),
            models.Index(
                fields=["id"],
                name="approval_unreviewed",
                condition=models.Q(break_glass_by__isnull=False, reviewed_at=None),
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["subject_type", "subject_id"],
                condition=models.Q(state__in=sorted(APPROVAL_OPEN)),
                name="approval_one_open",
            ),
            models.CheckConstraint(condition=models.Q(state__in=ApprovalState.values), name="approval_state_known"),
            models.CheckConstraint(condition=models.Q(quorum__gte=1), name="approval_quorum_positive"),
            models.CheckConstraint(
                condition=models.Q(state__in=sorted({*APPROVAL_OPEN, ApprovalState.EXECUTING}))
                | models.Q(closed_at__isnull=False),
                name="approval_closed_has_time",
            ),
            models.CheckConstraint(
                condition=models.Q(break_glass_by=None) | ~models.Q(break_glass_reason=""),
                name="approval_glass_has_reason",
            ),
            models.CheckConstraint(
                condition=models.Q(reviewed_by=None)
                | (
                    models.Q(break_glass_by__isnull=False, reviewed_at__isnull=False)
                    & ~models.Q(review="")
                    & ~models.Q(reviewed_by=models.F("break_glass_by"))
                ),
                name="approval_reviewed_by_another",
            ),
        ]
        permissions = [
            ("decide_approvalrequest", "Can approve and deny requests"),
            ("break_glass", "Can carry a request out without approval, to be reviewed afterwards"),
        ]

    def __str__(self) -> str:
        return self.subject_label


class ApprovalDecision(models.Model):
    """One person's verdict. Never changed, never removed; one a person and request."""

    request = models.ForeignKey(ApprovalRequest, on_delete=models.PROTECT, related_name="decisions")
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", verbose_name=_("decided by")
    )
    verdict = models.CharField(_("decision"), max_length=10, choices=Verdict)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    decided_at = models.DateTimeField(_("decided"))
    content_digest = models.CharField(max_length=64)
    ip = models.GenericIPAddressField(_("address"), null=True, blank=True)

    class Meta:
        verbose_name = _("decision")
        verbose_name_plural = _("decisions")
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["request", "decided_by"], name="decision_one_per_person"),
            models.CheckConstraint(
                condition=models.Q(verdict=Verdict.APPROVE) | ~models.Q(reason=""),
                name="decision_deny_has_reason",
            ),
            models.CheckConstraint(condition=models.Q(verdict__in=Verdict.values), name="decision_known"),
        ]

    def __str__(self) -> str:
        return f"{self.decided_by}: {self.get_verdict_display()}"
