"""What an officer wants to know on arrival. Every query is bounded."""

from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import QuerySet
from django.utils import timezone

from audit import completeness
from workflows.domain.states import DeliveryState, MessageState, WorkflowState
from workflows.models import ApprovalRequest, Cadence, Channel, Delivery, Message, Run, Source
from workflows.services import approvals, pauses, schedule

_SHOWN = 5


def overview(user: User | AnonymousUser) -> dict[str, Any]:
    """Lists of at most five rows each, empty where the person may not look."""
    if not user.has_perm("workflows.view_approvalrequest"):
        return {}
    now = timezone.now()
    pending = ApprovalRequest.objects.pending(now).select_related("requested_by").order_by("expires_at")
    trouble = Delivery.objects.filter(state__in=[DeliveryState.UNKNOWN]).select_related("message", "part")
    cadences = Cadence.objects.filter(enabled=True, workflow__state=WorkflowState.ACTIVE).select_related("workflow")
    return {
        "trail": completeness.badge(now) if user.has_perm("audit.view_auditevent") else None,
        "pending": pending[:_SHOWN],
        "asked": ApprovalRequest.objects.filter(requested_by=user.pk).order_by("-pk")[:_SHOWN],
        "unreviewed": _unreviewed(user),
        "pending_count": pending.order_by()[:100].count(),
        "upcoming": [
            {"at": instant, "cadence": cadence}
            for instant, cadence in schedule.upcoming(list(cadences[:200]), now, _SHOWN)
        ],
        "runs": Run.objects.select_related("workflow")[:_SHOWN],
        "messages_sent": Message.objects.exclude(state=MessageState.DRAFT).select_related("audience")[:_SHOWN],
        "unknown": trouble[:_SHOWN],
        "pauses": pauses.active()[:_SHOWN],
        "broken_channels": Channel.objects.filter(broken_at__isnull=False)[:_SHOWN],
        "failing_sources": Source.objects.filter(failing_since__isnull=False, enabled=True)[:_SHOWN],
    }


def _unreviewed(user: User | AnonymousUser) -> QuerySet[ApprovalRequest]:
    """What was carried out without approval, for those who may review it."""
    if not user.has_perm("workflows.decide_approvalrequest"):
        return ApprovalRequest.objects.none()
    return approvals.unreviewed().select_related("break_glass_by")[:_SHOWN]
