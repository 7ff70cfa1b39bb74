"""Tables, constraints and QuerySets; one file a noun."""

from workflows.models.approval import ApprovalDecision, ApprovalRequest
from workflows.models.attachment import Attachment
from workflows.models.audience import Audience, AudienceMember, Inclusion
from workflows.models.channel import AccessToken, Channel, ChannelSecret
from workflows.models.delivery import DeadLetter, Delivery, DeliveryAttempt, MessagePart
from workflows.models.digest import Digest, DigestEntry
from workflows.models.feed import DigestFeed
from workflows.models.inbound import ApprovalCard, CallbackApp, InboundEvent, WeComAccount
from workflows.models.item import Item
from workflows.models.member_import import ImportMode, MemberImport
from workflows.models.message import Message
from workflows.models.pace import SendSlot
from workflows.models.pause import SendingPause
from workflows.models.policy import PolicyFile, PolicyOverride
from workflows.models.run import Run
from workflows.models.secret import SecretRef
from workflows.models.snapshot import Snapshot
from workflows.models.source import Source
from workflows.models.standing import StandingApproval
from workflows.models.suppression import Suppression
from workflows.models.template import MessageTemplate
from workflows.models.version import WorkflowVersion
from workflows.models.workflow import Cadence, Workflow

__all__ = [
    "AccessToken",
    "ApprovalCard",
    "ApprovalDecision",
    "ApprovalRequest",
    "Attachment",
    "Audience",
    "AudienceMember",
    "Cadence",
    "CallbackApp",
    "Channel",
    "ChannelSecret",
    "DeadLetter",
    "Delivery",
    "DeliveryAttempt",
    "Digest",
    "DigestEntry",
    "DigestFeed",
    "ImportMode",
    "InboundEvent",
    "Inclusion",
    "Item",
    "MemberImport",
    "Message",
    "MessagePart",
    "MessageTemplate",
    "PolicyFile",
    "PolicyOverride",
    "Run",
    "SecretRef",
    "SendSlot",
    "SendingPause",
    "Snapshot",
    "Source",
    "StandingApproval",
    "Suppression",
    "WeComAccount",
    "Workflow",
    "WorkflowVersion",
]
