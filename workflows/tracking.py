"""Which edits put their field differences on the audit trail.

Configuration is tracked; rows that services move are not, because services record what they do in words.
"""

from django.contrib.auth.models import Group, User

from audit.diffs import track
from workflows.models import Audience, AudienceMember, Cadence, Channel, ChannelSecret, SecretRef, Source, Workflow

track(Workflow, m2m=["sources"])
track(Cadence, exclude=["next_run_at"])
track(Source, exclude=["state", "fetched_at", "fetch_after", "failing_since", "last_error", "notes"])
track(Channel)
track(ChannelSecret)
track(Audience)
track(AudienceMember)
track(SecretRef)
track(User, exclude=["password", "last_login"], m2m=["groups", "user_permissions"])
track(Group, m2m=["permissions"])
