"""The names of what the loop puts on the audit trail: past-tense facts."""

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class Event(TextChoices):
    WORKFLOW_ACTIVATED = "workflow.activated", _("Workflow activated")
    WORKFLOW_PAUSED = "workflow.paused", _("Workflow paused")

    RUN_QUEUED = "run.queued", _("Run queued")
    RUN_STARTED = "run.started", _("Run started")
    RUN_SUCCEEDED = "run.succeeded", _("Run succeeded")
    RUN_FAILED = "run.failed", _("Run failed")
    RUN_SKIPPED = "run.skipped", _("Run skipped")
    RUN_MISSED = "run.missed", _("Run missed")

    SOURCE_READ = "source.read", _("Source read")
    SOURCE_FAILED = "source.failed", _("Source could not be read")

    DIGEST_COMPOSED = "digest.composed", _("Digest composed")

    MESSAGE_WRITTEN = "message.written", _("Message written")
    MESSAGE_SUBMITTED = "message.submitted", _("Message submitted")
    MESSAGE_RELEASED = "message.released", _("Message released")
    MESSAGE_FINISHED = "message.finished", _("Message finished")
    MESSAGE_CANCELLED = "message.cancelled", _("Message cancelled")
    MESSAGE_REOPENED = "message.reopened", _("Message reopened")

    APPROVAL_REQUESTED = "approval.requested", _("Approval requested")
    APPROVAL_VIEWED = "approval.viewed", _("Approval request viewed")
    APPROVAL_GRANTED = "approval.granted", _("Approval granted")
    APPROVAL_DENIED = "approval.denied", _("Approval denied")
    APPROVAL_EXPIRED = "approval.expired", _("Approval expired")
    APPROVAL_WITHDRAWN = "approval.withdrawn", _("Approval withdrawn")
    APPROVAL_VOIDED = "approval.voided", _("Approval void: content changed")
    APPROVAL_SUPERSEDED = "approval.superseded", _("Approval superseded by a newer request")
    APPROVAL_REMINDED = "approval.reminded", _("Deciders reminded")
    APPROVAL_NOTIFYING = "approval.notifying", _("Notice about a request begun")
    APPROVAL_NOTIFIED = "approval.notified", _("Notice about a request sent")
    APPROVAL_EXECUTING = "approval.executing", _("Carrying out begun")
    APPROVAL_EXECUTED = "approval.executed", _("Approval executed")
    APPROVAL_REFUSED = "approval.refused", _("Decision refused")

    GLASS_BROKEN = "glass.broken", _("Glass broken: carried out without approval")
    GLASS_REVIEWED = "glass.reviewed", _("Break-glass reviewed")

    STANDING_ASKED = "standing.asked", _("Standing approval asked for")
    STANDING_GRANTED = "standing.granted", _("Standing approval granted")
    STANDING_ENDED = "standing.ended", _("Standing approval ended")
    STANDING_USED = "standing.used", _("Released under a standing approval")

    EVIDENCE_VIEWED = "evidence.viewed", _("Evidence viewed")
    EVIDENCE_EXPORT_STARTED = "evidence.export_started", _("Evidence export started")
    EVIDENCE_EXPORTED = "evidence.exported", _("Evidence exported")

    DELIVERY_ATTEMPTED = "delivery.attempted", _("Delivery attempted")
    DELIVERY_SENT = "delivery.sent", _("Delivery sent")
    DELIVERY_POSTPONED = "delivery.postponed", _("Delivery postponed")
    DELIVERY_FAILED = "delivery.failed", _("Delivery failed")
    DELIVERY_UNKNOWN = "delivery.unknown", _("Delivery outcome unknown")
    DELIVERY_SETTLED = "delivery.settled", _("Unknown delivery settled")
    FEED_OPENED = "feed.opened", _("Feed of digests opened")
    FEED_CLOSED = "feed.closed", _("Feed of digests closed")
    CALLBACK_RECEIVED = "callback.received", _("Callback received")
    CALLBACK_HANDLED = "callback.handled", _("Callback dealt with")
    CARD_SENT = "approval.card_sent", _("Card sent or updated")
    RECALL_ASKED = "message.recall_asked", _("Recall asked for")
    RECALLED = "message.recalled", _("Message taken back")
    DELIVERIES_EXPORTED = "delivery.exported", _("Dead letters exported")
    DELIVERY_CANCELLED = "delivery.cancelled", _("Deliveries cancelled")

    AUDIENCE_FILE_CHECKED = "audience.file_checked", _("Member file checked")
    AUDIENCE_IMPORT_CONFIRMED = "audience.import_confirmed", _("Import of members confirmed")
    AUDIENCE_IMPORTED = "audience.imported", _("Members imported")
    AUDIENCE_IMPORT_FAILED = "audience.import_failed", _("Import of members failed")
    AUDIENCE_EXPORTED = "audience.exported", _("Members exported")

    SENDING_PAUSED = "sending.paused", _("Sending paused")
    SENDING_RESUMED = "sending.resumed", _("Sending resumed")

    CHANNEL_BROKEN = "channel.broken", _("Channel broken")
    CHANNEL_REPAIRED = "channel.repaired", _("Channel in use again")

    SECRET_STORED = "secret.stored", _("Secret stored")
    SECRET_READ = "secret.read", _("Secret read")

    POLICY_LOADED = "policy.loaded", _("Policy file found")
    POLICY_ACKNOWLEDGED = "policy.acknowledged", _("Policy file acknowledged")


DECISIONS = frozenset(
    {
        Event.APPROVAL_GRANTED,
        Event.APPROVAL_DENIED,
        Event.APPROVAL_EXECUTING,
        Event.APPROVAL_EXECUTED,
        Event.GLASS_BROKEN,
        Event.GLASS_REVIEWED,
        Event.STANDING_GRANTED,
        Event.STANDING_ENDED,
        Event.DELIVERY_SETTLED,
        Event.DELIVERY_CANCELLED,
        Event.RECALL_ASKED,
        Event.SENDING_PAUSED,
        Event.SENDING_RESUMED,
    }
)
"""What a person decided, and that it was carried out: sealed at once, not within the minute."""
