"""A workflow's whole configuration as plain data: what it reads, says, to whom, through what and when.

``digest`` changes whenever any of that does; each configuration that was ever in use is kept as a version.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, time
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from audit import context
from workflows.domain.canonical import digest as digest_of
from workflows.domain.canonical import digest_of_all
from workflows.domain.changes import Change
from workflows.models import Audience, AudienceMember, Channel, Inclusion, SecretRef, Workflow, WorkflowVersion

_WORKFLOW = ("name", "goal", "contract", "state", "time_zone", "language", "max_entries", "max_age_days")
_SOURCE = ("id", "name", "kind", "config", "weight", "enabled")
_CADENCE = ("id", "digest_kind", "pattern", "every_minutes", "window_start", "window_end", "at", "days", "enabled")
_MEMBER = ("id", "label", "address", "is_group", "size")
# So many members are listed, and compared one by one; the digest covers them all.
LISTED = 1_000
_CHANNEL = ("id", "name", "kind", "config", "per_minute", "enabled")


def content(workflow: Workflow) -> dict[str, Any]:
    """As it is in the database now. A secret is named, with the time its value was stored; never the value."""
    now = Workflow.objects.select_related("owner", "audience", "template").get(pk=workflow.pk)
    audiences = Inclusion.objects.below(now.audience_id) if now.audience_id else set()
    members = AudienceMember.objects.filter(audience__in=audiences).order_by("pk")
    channels = Channel.objects.filter(pk__in=members.order_by().values("channel")).order_by("pk")
    included = Audience.objects.filter(pk__in=audiences - {now.audience_id}).values_list("name", flat=True)
    return {
        "workflow": {
            **_plain(now, _WORKFLOW),
            "owner": now.owner.get_username(),
            "audience": now.audience and now.audience.name,
            "template": now.template and f"{now.template.name}\n\n{now.template.body}",
            "includes": ", ".join(included),
            **_unlisted(members),
        },
        "sources": [_plain(source, _SOURCE) for source in now.sources.order_by("name")],
        "cadences": [_plain(cadence, _CADENCE) for cadence in now.cadences.order_by("pk")],
        "audience": list(_members(members[:LISTED])),
        "channels": [{**_plain(channel, _CHANNEL), "secrets": _secrets(channel)} for channel in channels],
    }


def _members(members: models.QuerySet[AudienceMember]) -> Iterator[dict[str, Any]]:
    for row in members.values(*_MEMBER, "channel__name"):
        channel = row.pop("channel__name")
        yield {**row, "channel": channel}


def _unlisted(members: models.QuerySet[AudienceMember]) -> dict[str, Any]:
    """What stands for the members of a large audience that are not listed by themselves."""
    count = members.count()
    if count <= LISTED:
        return {}
    return {"further_members": count - LISTED, "further_members_sha256": digest_of_all(_members(members[LISTED:]))}


def _plain(row: models.Model, names: Iterable[str]) -> dict[str, Any]:
    return {name: _as_json(getattr(row, name)) for name in names}


def _as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, time | datetime) else value


def _secrets(channel: Channel) -> dict[str, dict[str, Any]]:
    """By the adapter's field: a value that was replaced shows by its time."""
    uses = channel.secrets.select_related("secret").order_by("field")
    return {use.field: _plain(use.secret, ("name", "store", "rotated_at")) for use in uses}


def digest(workflow: Workflow) -> str:
    return digest_of(content(workflow))


# Which workflows an object belongs to: by the path from the workflow to it,
_PATHS: Mapping[str, str] = {
    "workflows.workflow": "pk",
    "workflows.cadence": "cadences",
    "workflows.source": "sources",
    "workflows.messagetemplate": "template",
}
# by the path from the audience to it,
_AUDIENCE_PATHS: Mapping[str, str] = {
    "workflows.audience": "pk",
    "workflows.inclusion": "inclusions",
    "workflows.audiencemember": "members",
    "workflows.channel": "members__channel",
    "workflows.channelsecret": "members__channel__secrets",
    "workflows.secretref": "members__channel__secrets__secret",
}
# and where it is part of another, by that one: it may be gone, or have moved.
_OWNERS: Mapping[str, tuple[str, str]] = {
    "workflows.cadence": ("workflow", "pk"),
    "workflows.inclusion": ("audience", "pk"),
    "workflows.audiencemember": ("audience", "pk"),
    "workflows.channelsecret": ("channel", "members__channel"),
}


def affected_by(change: Change) -> models.QuerySet[Workflow]:
    """The workflows whose configuration the object is or was part of. Ask after the change is made."""
    if change.model in _PATHS:
        return Workflow.objects.filter(_leads_to(change, _PATHS[change.model])).distinct()
    if change.model in _AUDIENCE_PATHS:
        return _speaking_to(Audience.objects.filter(_leads_to(change, _AUDIENCE_PATHS[change.model])))
    return Workflow.objects.none()


def _leads_to(change: Change, path: str) -> models.Q:
    asked = models.Q(**{path: change.key})
    if change.model in _OWNERS:
        name, to = _OWNERS[change.model]
        asked |= models.Q(**{f"{to}__in": [key for key in (change.was(name), change.becomes(name)) if key]})
    return asked


def _speaking_to(audiences: models.QuerySet[Audience]) -> models.QuerySet[Workflow]:
    """The workflows whose audience is one of these, or includes one."""
    keys = audiences.order_by().values_list("pk", flat=True).distinct()
    return Workflow.objects.filter(audience__in=Inclusion.objects.above(*keys))


def note_affected(changes: Iterable[Change]) -> None:
    """Keep what the configuration of every workflow that these changes touch has become."""
    touched = {workflow.pk: workflow for change in changes for workflow in affected_by(change)}
    for key in sorted(touched):
        note(touched[key])


def note_secret(secret: SecretRef) -> None:
    """The same for a value that was replaced."""
    users = Audience.objects.filter(**{_AUDIENCE_PATHS["workflows.secretref"]: secret})
    for workflow in _speaking_to(users).order_by("pk"):
        note(workflow)


@transaction.atomic
def note(workflow: Workflow) -> None:
    """Keep the configuration as a version, unless the newest one is the same."""
    Workflow.objects.select_for_update(of=("self",), no_key=True).get(pk=workflow.pk)  # one number at a time
    now = content(workflow)
    last = WorkflowVersion.objects.filter(workflow=workflow).first()
    if last is not None and last.digest == digest_of(now):
        return
    cause = context.current()
    WorkflowVersion.objects.create(
        workflow=workflow,
        number=last.number + 1 if last else 1,
        at=timezone.now(),
        who=cause.actor_of().label,
        request_id=cause.request_id,
        digest=digest_of(now),
        content=now,
    )
