"""Which edits put their field differences on the audit trail.

Configuration is tracked; rows that services move are not, because services record what they do in words.
"""

from django.contrib.auth.models import Group, User

from audit.diffs import track
from workflows.models import (
    Audience,
    AudienceMember,
    Cadence,
    CallbackApp,
    Channel,
    ChannelSecret,
    DigestFeed,
    Inclusion,
    MessageTemplate,
    PolicyFile,
    PolicyOverride,
    SecretRef,
    SendingPause,
    Source,
    Suppression,
    WeComAccount,
    Workflow,
    WorkflowVersion,
)
from workflows.services.capture import watch, watch_removal

_STATE_OF_SOURCES = ("state", "fetched_at", "fetch_after", "failing_since", "last_error", "notes")

track(Workflow, exclude=["state"], m2m=["sources"])
track(Cadence, exclude=["next_run_at"])
track(Source, exclude=_STATE_OF_SOURCES)
track(Channel)
track(ChannelSecret)
track(Audience)
track(AudienceMember)
track(MessageTemplate)
track(CallbackApp)
track(WeComAccount)
track(Inclusion)
track(Suppression)
track(SecretRef)
track(PolicyOverride)
track(User, exclude=["password", "last_login"], m2m=["groups", "user_permissions"])
track(Group, m2m=["permissions"])

# What is watched for changes that need a second person: the same, but for what only services write.
watch(Workflow)
watch(Cadence, exclude=["next_run_at"])
watch(Source, exclude=_STATE_OF_SOURCES)
watch(Channel, exclude=["broken_at", "broken_why", "probe_at"])
watch(ChannelSecret)
watch(Audience)
watch(AudienceMember)
watch(MessageTemplate)
watch(DigestFeed)
watch(CallbackApp)
watch(WeComAccount)
watch(Inclusion)
watch(Suppression)
watch(SecretRef, exclude=["rotated_at"])
watch(PolicyOverride)
watch_removal(WorkflowVersion)
watch_removal(SendingPause)
watch(PolicyFile)
watch(User, exclude=["last_login"])
watch(Group)
