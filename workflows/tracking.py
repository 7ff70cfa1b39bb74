"""Which edits put their field differences on the audit trail.

Configuration is tracked; rows that services move are not, because services record what they do in words.
"""

from auditlog.registry import auditlog
from django.contrib.auth.models import Group, User

from workflows.models import (
    Audience,
    AudienceMember,
    Cadence,
    Channel,
    ChannelSecret,
    SecretRef,
    Source,
    Workflow,
)

auditlog.register(Workflow, m2m_fields={"sources"})
auditlog.register(Cadence, exclude_fields=["next_run_at"])
auditlog.register(Source, exclude_fields=["state", "fetched_at", "fetch_after", "failing_since", "last_error", "notes"])
auditlog.register(Channel)
auditlog.register(ChannelSecret)
auditlog.register(Audience)
auditlog.register(AudienceMember)
auditlog.register(SecretRef)
auditlog.register(User, exclude_fields=["password", "last_login"], m2m_fields={"groups", "user_permissions"})
auditlog.register(Group, m2m_fields={"permissions"})
