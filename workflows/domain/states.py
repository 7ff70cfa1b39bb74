"""The life of everything that lives: states, what may follow what, and named sets for queries and buttons."""

from collections.abc import Mapping
from typing import TypeVar

from django.db.models import IntegerChoices, TextChoices
from django.utils.translation import pgettext_lazy

S = TypeVar("S", bound=TextChoices)


class WorkflowState(TextChoices):
    DRAFT = "draft", pgettext_lazy("workflow", "Draft")
    ACTIVE = "active", pgettext_lazy("workflow", "Active")
    PAUSED = "paused", pgettext_lazy("workflow", "Paused")


class RunState(TextChoices):
    QUEUED = "queued", pgettext_lazy("run", "Queued")
    RUNNING = "running", pgettext_lazy("run", "Running")
    SUCCEEDED = "succeeded", pgettext_lazy("run", "Succeeded")
    FAILED = "failed", pgettext_lazy("run", "Failed")
    SKIPPED = "skipped", pgettext_lazy("run", "Skipped")
    MISSED = "missed", pgettext_lazy("run", "Missed")


RUN_ACTIVE = frozenset({RunState.QUEUED, RunState.RUNNING})


class MessageState(TextChoices):
    DRAFT = "draft", pgettext_lazy("message", "Draft")
    PENDING = "pending", pgettext_lazy("message", "Waiting for approval")
    RELEASED = "released", pgettext_lazy("message", "On its way")
    SENT = "sent", pgettext_lazy("message", "Sent")
    PARTLY_SENT = "partly_sent", pgettext_lazy("message", "Partly sent")
    FAILED = "failed", pgettext_lazy("message", "Failed")
    CANCELLED = "cancelled", pgettext_lazy("message", "Cancelled")


MESSAGE_TRANSITIONS: Mapping[MessageState, frozenset[MessageState]] = {
    MessageState.DRAFT: frozenset({MessageState.PENDING, MessageState.RELEASED, MessageState.CANCELLED}),
    MessageState.PENDING: frozenset({MessageState.RELEASED, MessageState.DRAFT, MessageState.CANCELLED}),
    MessageState.RELEASED: frozenset(
        {MessageState.SENT, MessageState.PARTLY_SENT, MessageState.FAILED, MessageState.CANCELLED}
    ),
    MessageState.PARTLY_SENT: frozenset({MessageState.RELEASED}),
    MessageState.FAILED: frozenset({MessageState.RELEASED}),
    MessageState.SENT: frozenset(),
    MessageState.CANCELLED: frozenset(),
}


class Priority(IntegerChoices):
    """What goes first when several messages want to leave."""

    ALERT = 10, pgettext_lazy("priority", "Alert")
    DECISION = 20, pgettext_lazy("priority", "Single message")
    DIGEST = 30, pgettext_lazy("priority", "Digest")
    MASS = 40, pgettext_lazy("priority", "Mass send")


class DeliveryState(TextChoices):
    QUEUED = "queued", pgettext_lazy("delivery", "Queued")
    SENDING = "sending", pgettext_lazy("delivery", "Sending")
    WAITING = "waiting", pgettext_lazy("delivery", "Waiting to retry")
    SENT = "sent", pgettext_lazy("delivery", "Sent")
    UNKNOWN = "unknown", pgettext_lazy("delivery", "Unknown")
    FAILED = "failed", pgettext_lazy("delivery", "Failed")
    DEAD = "dead", pgettext_lazy("delivery", "Given up")
    CANCELLED = "cancelled", pgettext_lazy("delivery", "Cancelled")


DELIVERY_TRANSITIONS: Mapping[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.QUEUED: frozenset({DeliveryState.SENDING, DeliveryState.CANCELLED, DeliveryState.DEAD}),
    DeliveryState.WAITING: frozenset({DeliveryState.SENDING, DeliveryState.CANCELLED, DeliveryState.DEAD}),
    DeliveryState.SENDING: frozenset(
        {
            DeliveryState.SENT,
            DeliveryState.WAITING,
            DeliveryState.UNKNOWN,
            DeliveryState.FAILED,
            DeliveryState.DEAD,
        }
    ),
    DeliveryState.UNKNOWN: frozenset({DeliveryState.SENT, DeliveryState.QUEUED}),
    DeliveryState.FAILED: frozenset({DeliveryState.QUEUED}),
    DeliveryState.DEAD: frozenset({DeliveryState.QUEUED}),
    DeliveryState.SENT: frozenset(),
    DeliveryState.CANCELLED: frozenset(),
}
DELIVERY_DUE = frozenset({DeliveryState.QUEUED, DeliveryState.WAITING})
"""May be claimed once their time has come."""
DELIVERY_UNCERTAIN = frozenset({DeliveryState.SENDING, DeliveryState.UNKNOWN})
"""It may have left, or not."""
DELIVERY_DEAD = frozenset({DeliveryState.UNKNOWN, DeliveryState.FAILED, DeliveryState.DEAD})
"""A person decides what becomes of it."""
DELIVERY_OPEN = DELIVERY_DUE | DELIVERY_UNCERTAIN
"""The message is not finished while one of its deliveries is here."""


class InboundState(TextChoices):
    NEW = "new", pgettext_lazy("inbound", "New")
    DONE = "done", pgettext_lazy("inbound", "Done")
    FAILED = "failed", pgettext_lazy("inbound", "Refused")
    IGNORED = "ignored", pgettext_lazy("inbound", "Noted")


class ImportState(TextChoices):
    CHECKED = "checked", pgettext_lazy("import", "Checked")
    WAITING = "waiting", pgettext_lazy("import", "Waiting for approval")
    QUEUED = "queued", pgettext_lazy("import", "Being imported")
    APPLIED = "applied", pgettext_lazy("import", "Imported")
    FAILED = "failed", pgettext_lazy("import", "Not imported")


IMPORT_TRANSITIONS: Mapping[ImportState, frozenset[ImportState]] = {
    ImportState.CHECKED: frozenset({ImportState.WAITING, ImportState.QUEUED, ImportState.APPLIED}),
    ImportState.WAITING: frozenset({ImportState.QUEUED, ImportState.FAILED}),
    ImportState.QUEUED: frozenset({ImportState.APPLIED, ImportState.FAILED}),
    ImportState.APPLIED: frozenset(),
    ImportState.FAILED: frozenset(),
}
IMPORT_CLOSED = frozenset({ImportState.APPLIED, ImportState.FAILED})
"""Nothing more comes of it, and its file is gone."""


class ApprovalState(TextChoices):
    PENDING = "pending", pgettext_lazy("approval", "Pending")
    APPROVED = "approved", pgettext_lazy("approval", "Approved")
    EXECUTING = "executing", pgettext_lazy("approval", "Being carried out")
    EXECUTED = "executed", pgettext_lazy("approval", "Executed")
    PARTLY_EXECUTED = "partly", pgettext_lazy("approval", "Partly executed")
    FAILED = "failed", pgettext_lazy("approval", "Failed")
    DENIED = "denied", pgettext_lazy("approval", "Denied")
    EXPIRED = "expired", pgettext_lazy("approval", "Expired")
    WITHDRAWN = "withdrawn", pgettext_lazy("approval", "Withdrawn")
    SUPERSEDED = "superseded", pgettext_lazy("approval", "Superseded by a newer request")
    VOID = "void", pgettext_lazy("approval", "Void: content changed")


APPROVAL_TRANSITIONS: Mapping[ApprovalState, frozenset[ApprovalState]] = {
    ApprovalState.PENDING: frozenset(
        {
            ApprovalState.APPROVED,
            ApprovalState.DENIED,
            ApprovalState.EXPIRED,
            ApprovalState.WITHDRAWN,
            ApprovalState.SUPERSEDED,
            ApprovalState.VOID,
        }
    ),
    ApprovalState.APPROVED: frozenset({ApprovalState.EXECUTING, ApprovalState.WITHDRAWN, ApprovalState.VOID}),
    ApprovalState.EXECUTING: frozenset(
        {ApprovalState.EXECUTED, ApprovalState.PARTLY_EXECUTED, ApprovalState.FAILED, ApprovalState.VOID}
    ),
    ApprovalState.EXECUTED: frozenset(),
    ApprovalState.PARTLY_EXECUTED: frozenset(),
    ApprovalState.FAILED: frozenset(),
    ApprovalState.DENIED: frozenset(),
    ApprovalState.EXPIRED: frozenset(),
    ApprovalState.WITHDRAWN: frozenset(),
    ApprovalState.SUPERSEDED: frozenset(),
    ApprovalState.VOID: frozenset(),
}
APPROVAL_OPEN = frozenset({ApprovalState.PENDING, ApprovalState.APPROVED})
"""Waits: for a person, or for its hour. One at a time for each subject."""
APPROVAL_CARRIED_OUT = frozenset(
    {ApprovalState.EXECUTING, ApprovalState.EXECUTED, ApprovalState.PARTLY_EXECUTED, ApprovalState.FAILED}
)
"""It had what it needed, and was begun."""
APPROVAL_CAME_TO_NOTHING = frozenset(
    {
        *(ApprovalState.DENIED, ApprovalState.EXPIRED, ApprovalState.WITHDRAWN, ApprovalState.SUPERSEDED),
        *(ApprovalState.VOID, ApprovalState.FAILED),
    }
)
"""Closed, and nothing was done: it can be asked for anew."""


class Verdict(TextChoices):
    APPROVE = "approve", pgettext_lazy("verdict", "Approve")
    DENY = "deny", pgettext_lazy("verdict", "Deny")


class OfferState(TextChoices):
    """What became of an item that a digest offered to people."""

    OFFERED = "offered", pgettext_lazy("offer", "Offered")
    SETTLED = "settled", pgettext_lazy("offer", "Delivered")
    DISMISSED = "dismissed", pgettext_lazy("offer", "Dismissed")
    RELEASED = "released", pgettext_lazy("offer", "Free again")


OFFER_TAKEN = frozenset({OfferState.OFFERED, OfferState.SETTLED, OfferState.DISMISSED})


def allowed_from(transitions: Mapping[S, frozenset[S]], target: S) -> list[S]:
    """The states from which ``target`` may be reached: the WHERE of a conditional UPDATE."""
    return [state for state, following in transitions.items() if target in following]
