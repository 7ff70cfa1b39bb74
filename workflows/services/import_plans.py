"""What a file of members would do to an audience, row by row, and whether that needs a second person."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from workflows.domain.canonical import digest_of_all
from workflows.domain.changes import Change, ChangeSet
from workflows.domain.errors import StaleContent
from workflows.domain.states import WorkflowState
from workflows.models import Audience, AudienceMember, ImportMode, MemberImport, Workflow
from workflows.services import configuration
from workflows.services.member_files import Reading

WRITTEN = ("label", "is_group", "size")
_MEMBER = AudienceMember._meta.label_lower
_LISTED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a file would do to an audience as it is now. ``changed``: each member as it is, and as it would be."""

    audience: Audience
    added: Sequence[AudienceMember]
    changed: Sequence[tuple[AudienceMember, AudienceMember]]
    removed: Sequence[AudienceMember]
    unchanged: int

    @property
    def size(self) -> int:
        return len(self.added) + len(self.changed) + len(self.removed)

    @property
    def counts(self) -> dict[str, int]:
        return {
            "added": len(self.added),
            "changed": len(self.changed),
            "removed": len(self.removed),
            "unchanged": self.unchanged,
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """What would be written, a row each, as JSON values."""
        for member in self.removed:
            yield {"how": "removed", **_shown(member), "before": None}
        for before, after in self.changed:
            differs = {name: value for name, value in _written(before).items() if value != getattr(after, name)}
            yield {"how": "changed", **_shown(after), "before": differs}
        for member in self.added:
            yield {"how": "added", **_shown(member), "before": None}

    @property
    def first(self) -> list[dict[str, Any]]:
        return list(islice(self.rows(), _LISTED))

    @property
    def digest(self) -> str:
        return digest_of_all(self.rows())


def _written(member: AudienceMember) -> dict[str, Any]:
    return {name: getattr(member, name) for name in WRITTEN}


def _shown(member: AudienceMember) -> dict[str, Any]:
    return {"channel": member.channel.name, "address": member.address, **_written(member)}


def compare(audience: Audience, mode: str, reading: Reading) -> Plan:
    stored = AudienceMember.objects.filter(audience=audience).select_related("channel").order_by("pk")
    there = {(member.channel_id, member.address): member for member in stored}
    added, changed = [], []
    for member in reading.members:
        before = there.pop((member.channel_id, member.address), None)
        if before is None:
            added.append(member)
        elif _written(before) != _written(member):
            changed.append((before, member))
    return Plan(
        audience=audience,
        added=added,
        changed=changed,
        removed=list(there.values()) if mode == ImportMode.REPLACE else [],
        unchanged=len(reading.members) - len(added) - len(changed),
    )


def as_shown(job: MemberImport, reading: Reading) -> Plan:
    """What the file does now, provided that it is what was shown. Raises StaleContent."""
    if reading.problems:
        raise StaleContent(_("a channel was changed meanwhile: upload the file again"))
    plan = compare(job.audience, job.mode, reading)
    if plan.digest != job.plan_sha256:
        raise StaleContent(_("the audience was changed meanwhile: upload the file again"))
    return plan


def as_changes(plan: Plan, by: User) -> ChangeSet:
    """As if every member had been changed on a page, so that the same rules judge it."""
    in_service = workflows_in_service(plan.audience).exists()

    def change(key: int, member: AudienceMember, before: Any, after: Any) -> Change:
        label = str(member)
        return Change(model=_MEMBER, key=key, label=label, before=before, after=after, in_service=in_service)

    return ChangeSet(
        by=by.pk,
        changes=[
            *(change(-number, member, None, _shown(member)) for number, member in enumerate(plan.added, 1)),
            *(change(before.pk, before, _shown(before), _shown(after)) for before, after in plan.changed),
            *(change(member.pk, member, _shown(member), None) for member in plan.removed),
        ],
    )


def workflows_in_service(audience: Audience) -> QuerySet[Workflow]:
    return configuration.affected_by(whole(audience)).filter(state=WorkflowState.ACTIVE).order_by("name")


def whole(audience: Audience) -> Change:
    """The audience itself, for whoever asks what depends on it."""
    return Change(model=Audience._meta.label_lower, key=audience.pk, label=str(audience), before=None, after=None)
