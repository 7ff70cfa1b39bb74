"""The policy in force: the file, without what nobody has acknowledged yet, under the overrides of the admin.

A file that was found is kept as a row, and each is on the trail with what it changes. What a file relaxes against the
last acknowledged one is not in force until a second person has acknowledged it.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypedDict

from django.contrib.auth.models import Group, User
from django.db import connection, models, transaction
from django.db.models.signals import post_delete, post_save, pre_save
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context
from audit.recorder import record
from compliance_bot.guardrails import policy, strictness
from compliance_bot.guardrails.policy import Overlaid, Policy, PolicyError, Values
from workflows.domain.canonical import digest
from workflows.domain.changes import Change
from workflows.domain.errors import Invalid, NotPermitted, StaleContent, WrongState
from workflows.domain.events import Event
from workflows.models import PolicyFile, PolicyOverride
from workflows.services import changes

logger = logging.getLogger(__name__)


class Difference(TypedDict):
    """None stands for a key that is not there."""

    key: str
    before: Any
    after: Any
    laxer: bool


def register() -> None:
    """At start: tell the guardrails what the database holds, and keep overrides usable."""
    policy.overlay(_laid_over)
    pre_save.connect(_before_override, sender=PolicyOverride, dispatch_uid="policy_before")
    post_save.connect(_after_override, sender=PolicyOverride, dispatch_uid="policy_saved")
    post_delete.connect(_after_override, sender=PolicyOverride, dispatch_uid="policy_deleted")
    changes.afterwards(PolicyFile, _once_approved)


def note_policy() -> None:
    """Keep the file that is found now, and record what it changes, unless it is the newest one already.

    The first file needs no acknowledgement, nor does one that relaxes nothing. Two processes that start at the same
    instant may both record it: the same fact twice.
    """
    values = policy.values_of(policy.found())
    sha256 = digest(values)
    newest = _newest()
    if newest is not None and newest.sha256 == sha256:
        return
    with transaction.atomic(), context.system_acting():
        now = timezone.now()
        lax = strictness.relaxed(before=_complete(_acknowledged() or values), after=values)
        noted = {"values": values, "found_at": now, "relaxes": [], "acknowledged_at": None if lax else now}
        PolicyFile.objects.update_or_create(sha256=sha256, defaults=noted)
        before = None if newest is None else newest.values
        facts = {"sha256": sha256, "changes": _as_texts(before, values), "values": _texts(values), "held_back": lax}
        record(Event.POLICY_LOADED, facts=facts)


def ask_acknowledgement(*, by: User, reason: str) -> None:
    """Ask a second person to put into force what the newest file relaxes. Raises NotPermitted or WrongState.

    From a page of the admin, the entrance asks for the reason.
    """
    if not by.has_perm("workflows.change_policyoverride"):
        raise NotPermitted(_("Your role does not include changing the policy."))
    file = unacknowledged()
    if file is None:
        raise WrongState(_("No policy file waits for acknowledgement."))
    with changes.under_approval(by=by, reason=reason):
        file.acknowledged_at, file.relaxes = timezone.now(), _relaxed_lines(file)
        file.save(update_fields=["acknowledged_at", "relaxes"])


def acknowledge(pk: int) -> None:
    """What the newest file relaxes is in force from now on. Raises StaleContent where it is not the newest."""
    with transaction.atomic():
        file = PolicyFile.objects.select_for_update().get(pk=pk)
        if file != _newest():
            raise StaleContent(_("The policy file has changed since."))
        file.acknowledged_at, file.relaxes = timezone.now(), _relaxed_lines(file)
        file.save(update_fields=["acknowledged_at", "relaxes"])
        record(Event.POLICY_ACKNOWLEDGED, target=file, facts={"sha256": file.sha256, "relaxes": file.relaxes})
        transaction.on_commit(policy.forget)


def _once_approved(change: Change, file: models.Model) -> None:
    """Carrying out the request of ``ask_acknowledgement``, or its rollback."""
    assert isinstance(file, PolicyFile)  # noqa: S101 - registered for it alone
    if file.acknowledged_at is None:
        transaction.on_commit(policy.forget)
    elif file.relaxes != _relaxed_lines(file):
        raise StaleContent(_("Another policy file was acknowledged since."))
    else:
        acknowledge(file.pk)


def _relaxed_lines(file: PolicyFile) -> list[str]:
    relaxed = [difference for difference in describe_file(file.pk)["changes"] if difference["laxer"]]
    return [f"{each['key']}: {as_text(each['before'])} → {as_text(each['after'])}" for each in relaxed]


def unacknowledged() -> PolicyFile | None:
    """The newest file, where something of it waits for a second person."""
    newest = _newest()
    return newest if newest is not None and newest.acknowledged_at is None else None


def relaxations() -> list[tuple[str, Any, Any]]:
    """(key, in force, in the file) of what waits for acknowledgement."""
    file = unacknowledged()
    differences = describe_file(file.pk)["changes"] if file is not None else []
    return [(each["key"], each["before"], each["after"]) for each in differences if each["laxer"]]


class Description(TypedDict):
    sha256: str
    changes: list[Difference]


def describe_file(pk: int) -> Description:
    """What a file changes against the other one that was acknowledged last, as plain data."""
    file = PolicyFile.objects.get(pk=pk)
    other = _last_acknowledged(PolicyFile.objects.exclude(pk=pk))
    before, after = _complete(other or file.values), _complete(file.values)
    lax = strictness.relaxed(before=before, after=after)
    changed = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    return {
        "sha256": file.sha256,
        "changes": [
            {"key": key, "before": before.get(key), "after": after.get(key), "laxer": key in lax} for key in changed
        ],
    }


def require_valid(key: str, value: Any) -> None:
    """Raises Invalid where ``key`` is not one of a policy's, or ``value`` none that it can have."""
    if problem := _problem(key, value):
        raise Invalid(problem, field="value" if key in policy.KEYS else "key")
    names_a_group = key.endswith((".group", ".escalate_to"))
    if names_a_group and value and not Group.objects.filter(name=value).exists():
        raise Invalid(_("%(key)s: there is no group “%(name)s”.") % {"key": key, "name": value}, field="value")


class Row(TypedDict):
    """Values as text; empty where the policy does not have the key."""

    key: str
    in_file: str
    override: PolicyOverride | None
    in_force: str


def table() -> Iterator[Row]:
    """Every key with what the file says, what the admin says instead, and what is in force."""
    in_file = policy.values_of(policy.found())
    overrides = {override.key: override for override in PolicyOverride.objects.all()}
    in_force = {**_held(in_file), **{key: override.value for key, override in overrides.items()}}
    for key in policy.KEYS:
        yield {
            "key": key,
            "in_file": as_text(in_file[key]) if key in in_file else "",
            "override": overrides.get(key),
            "in_force": as_text(in_force[key]) if key in in_force else "",
        }


def as_text(value: Any) -> str:
    """As it can be written in the file and in the form."""
    return json.dumps(value, ensure_ascii=False)


def unusable_overrides() -> dict[str, str]:
    """Key: what is wrong, of overrides that an earlier version took and this one does not."""
    if not _is_migrated():
        return {}
    return {key: problem for key, value in _overrides().items() if (problem := _problem(key, value))}


def _is_migrated() -> bool:
    return PolicyOverride._meta.db_table in connection.introspection.table_names()


def _laid_over(values: Values) -> Overlaid:
    """Before the first migration there is nothing to lay over the file."""
    if not _is_migrated():
        return Overlaid(values=values, settled=False)
    return Overlaid(values={**_held(values), **_usable(_overrides())}, settled=not _is_changing())


def _held(values: Values) -> dict[str, Any]:
    """The file's values, without what it relaxes against the last acknowledged file."""
    acknowledged = _acknowledged()
    return dict(values) if acknowledged is None else strictness.held(before=_complete(acknowledged), after=values)


def _usable(overrides: Values) -> dict[str, Any]:
    """Without overrides of keys that no longer exist: nothing reads those, so to ignore them relaxes nothing.

    A value that is not valid any more may be stricter than the file's, so it is not ignored: there is no policy then.
    """
    usable = dict(overrides)
    for key, value in overrides.items():
        problem = _problem(key, value)
        if problem and key in policy.KEYS:
            raise PolicyError(f"a policy override cannot be used, so no policy is in force: {problem}")
        if problem:
            _tell_once(f"a policy override is ignored: {problem}")
            del usable[key]
    return usable


@cache
def _tell_once(text: str) -> None:
    logger.error(text)


def _is_changing() -> bool:
    """Whether this transaction has changed an override or acknowledged a file, and is still open."""
    return any(callback == policy.forget for _, callback, *_ in connection.run_on_commit)


def _acknowledged() -> dict[str, Any] | None:
    """The values of the file that was acknowledged last."""
    return _last_acknowledged(PolicyFile.objects.all())


def _last_acknowledged(files: models.QuerySet[PolicyFile]) -> dict[str, Any] | None:
    file = files.filter(acknowledged_at__isnull=False).order_by("-acknowledged_at", "-pk").first()
    return None if file is None else file.values


def _newest() -> PolicyFile | None:
    return PolicyFile.objects.order_by("-found_at", "-pk").first()


def _overrides() -> dict[str, Any]:
    return dict(PolicyOverride.objects.values_list("key", "value"))


def _complete(values: Values) -> dict[str, Any]:
    """As this version knows it: a file that an earlier one kept lacks newer keys, which had their default then."""
    return {key: value for key, value in {**policy.values_of(Policy()), **values}.items() if key in policy.KEYS}


def _before_override(instance: PolicyOverride, **kwargs: Any) -> None:
    require_valid(instance.key, instance.value)
    policy.current()  # a pinned policy is pinned now at the latest: the change is not to judge itself


def _after_override(**kwargs: Any) -> None:
    transaction.on_commit(policy.forget)


def _problem(key: str, value: Any) -> str | None:
    if key not in policy.KEYS:
        return f"{key}: unknown key"
    try:
        policy.from_values({key: value})
    except PolicyError as error:
        return str(error)
    return None


def _texts(values: Values) -> dict[str, str]:
    """Every value as text, as the trail keeps it."""
    return {key: ", ".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in values.items()}


def _as_texts(before: Values | None, after: Values) -> Mapping[str, list[str | None]]:
    """Dotted key: [old, new]. None stands for a key that was not there; nothing known before is no change."""
    if before is None:
        return {}
    old, new = _texts(before), _texts(after)
    return {key: [old.get(key), new.get(key)] for key in sorted({*old, *new}) if old.get(key) != new.get(key)}
