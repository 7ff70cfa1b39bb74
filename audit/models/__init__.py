from audit.models.diff import FieldChange
from audit.models.export import AuditExport, AuditReport, ExportForm, ExportState, Period
from audit.models.forwarding import AuditForwarder
from audit.models.retention import AuditHold, AuditPurge, AuditPurgeGrant
from audit.models.trail import (
    AppendOnly,
    AppendOnlyModel,
    AppendOnlyQuerySet,
    AuditEvent,
    AuditLeaf,
    AuditPayload,
    AuditSeal,
)

__all__ = [
    "AppendOnly",
    "AppendOnlyModel",
    "AppendOnlyQuerySet",
    "AuditEvent",
    "AuditExport",
    "AuditForwarder",
    "AuditHold",
    "AuditLeaf",
    "AuditPayload",
    "AuditPurge",
    "AuditPurgeGrant",
    "AuditReport",
    "AuditSeal",
    "ExportForm",
    "ExportState",
    "FieldChange",
    "Period",
]
