"""Changes of stored objects that need a second person: seen as they are made, taken back, asked for, carried out.

Whatever makes the change - a form, a list, a deletion with all that hangs on it, a service - runs as it always does,
inside a transaction that is watched. If what it wrote is risky, the transaction is rolled back and the differences
become a request. Once approved, they are written, provided that every object is still what it was, and exactly they:
what is written is watched again and compared.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from django.contrib.auth.models import User
from django.db import DatabaseError, connection, models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context
from compliance_bot.guardrails import policy
from compliance_bot.guardrails.policy import Rule
from workflows import actions
from workflows.domain.changes import Change, ChangeSet
from workflows.domain.errors import Invalid, ReasonRequired, StaleContent
from workflows.domain.states import APPROVAL_CAME_TO_NOTHING, ApprovalState
from workflows.models import ApprovalRequest, Snapshot
from workflows.services import approvals, capture, configuration, rows
from workflows.services.reasons import clean_reason

# More at once than anybody could look through.
MOST = 2000

_afterwards: dict[str, Callable[[Change, models.Model], None]] = {}


def afterwards(model: type[models.Model], act: Callable[[Change, models.Model], None]) -> None:
    """What has to follow once an approved change of such an object is written: a plan to set anew, say."""
    _afterwards[model._meta.label_lower] = act


# Seeing


@dataclass(slots=True)
class Watched:
    """What came of a watched transaction: nothing risky (then it is committed), or ``needs``: what has to be asked."""

    needs: ChangeSet | None = None
    kinds: list[actions.ChangeAction] = field(default_factory=list)


@contextmanager
def watched(by: User) -> Iterator[Watched]:
    """Commit what is written inside, unless it needs a second person: then nothing was written."""
    found = Watched()
    with policy.pinned(), transaction.atomic(), capture.captured() as seen:
        yield found
        changes = _in_context(seen.changes(), by=by, bulk=seen.bulk)
        found.kinds = needing_approval(changes)
        if found.kinds:
            found.needs = changes
            transaction.set_rollback(True)
        else:
            configuration.note_affected(changes.changes)


@contextmanager
def under_approval(*, by: User, reason: str) -> Iterator[None]:
    """For services: inside, the change is made; where it needs a second person, it is asked for instead.

    An entrance that watches already (an admin page) sees the change itself.
    """
    if capture.is_active():
        yield
        return
    with watched(by) as found:
        yield
    if found.needs is not None:
        ask(found.needs, by=by, reason=reason)


def needing_approval(changes: ChangeSet) -> list[actions.ChangeAction]:
    """The actions as which these changes have to be approved under the policy, the gravest first."""
    rules = policy.current().actions
    return [
        kind
        for kind in actions.concerned(changes)
        if rules.needs_approval(kind.kind) and _is_large_enough(kind, changes, rules.rule(kind.kind))
    ]


def _is_large_enough(kind: actions.ChangeAction, changes: ChangeSet, rule: Rule) -> bool:
    if kind.kind != "bulk_delete":
        return True
    return changes.bulk or (rule.threshold is not None and len(changes.removed) >= rule.threshold)


def _in_context(found: Sequence[Change], *, by: User, bulk: bool) -> ChangeSet:
    return ChangeSet(
        changes=[replace(change, in_service=_is_in_service(change)) for change in found], by=by.pk, bulk=bulk
    )


def _is_in_service(change: Change) -> bool:
    """Whether an active workflow depends on it. A secret has a risky action of its own.

    Whoever lifts a suppression reaches into every audience; whoever adds one must not have to wait.
    """
    if change.model == "workflows.secretref":
        return False
    if change.model == "workflows.suppression":
        return change.before is not None
    was_active = change.model == "workflows.workflow" and change.was("state") == "active"
    return was_active or configuration.affected_by(change).filter(state="active").exists()


# Asking


def ask(
    changes: ChangeSet,
    *,
    by: User,
    reason: str,
    action: str = "",
    previous: ApprovalRequest | None = None,
) -> ApprovalRequest:
    """Ask for a second person for changes that were seen and taken back. Raises a WorkflowError."""
    reason = clean_reason(reason)
    if not reason:
        raise ReasonRequired(_("Say why: whoever decides has to be able to judge it."))
    kinds = [actions.registry.get(action)] if action else needing_approval(changes)
    if not kinds:
        raise Invalid(_("These changes need no approval any more; make them again."))
    if len(changes.changes) > MOST:
        raise Invalid(_("At most %(most)s objects can be changed at once.") % {"most": MOST})
    with transaction.atomic(), context.acting(by):
        return approvals.request(
            action=kinds[0].kind,
            subject=_subject(changes),
            size=len(changes.changes),
            reason=reason,
            requested_by=by,
            authored_by=by,
            payload=changes.dump(),
            barred=[change.key for change in changes.changes if change.model == "auth.user" and change.before],
            rule=strictest([policy.current().actions.rule(kind.kind) for kind in kinds]),
            previous=previous,
        )


def again(*, approval_id: int, by: User, reason: str) -> ApprovalRequest:
    """Ask anew for what was denied, expired or withdrawn; the new request follows the old one."""
    old = ApprovalRequest.objects.get(pk=approval_id)
    if old.state not in APPROVAL_CAME_TO_NOTHING or not old.payload:
        raise Invalid(_("Only what came to nothing can be asked for anew."))
    if by.pk != old.requested_by_id:
        raise Invalid(_("Only who asked can ask anew."))
    return ask(ChangeSet.load(old.payload), by=by, reason=reason, action=old.action, previous=old)


def strictest(rules: Sequence[Rule]) -> Rule:
    """Where changes are of several kinds, the first rule with the most approvals and the longest wait of all."""
    return replace(
        rules[0],
        quorum=max(rule.quorum for rule in rules),
        delay_minutes=max(rule.delay_minutes for rule in rules),
        expires_after_hours=min(rule.expires_after_hours for rule in rules),
        business_hours_only=any(rule.business_hours_only for rule in rules),
        reason_to_approve=any(rule.reason_to_approve for rule in rules),
    )


def _subject(changes: ChangeSet) -> approvals.Subject:
    """One stored object by its own name; several, or new ones, by what binds them."""
    first = changes.changes[0]
    if len({(change.model, change.key) for change in changes.changes}) == 1 and first.before is not None:
        return approvals.Subject(type=first.model, id=str(first.key), label=first.label)
    others = len(changes.changes) - 1
    label = _("%(first)s and %(count)s more") % {"first": first.label, "count": others} if others else first.label
    return approvals.Subject(type=first.model, id=changes.digest[:32], label=label)


def described(changes: ChangeSet) -> list[dict[str, Any]]:
    """What the officer is shown: one entry a field of a changed object, one for each new or removed object."""
    return [entry for change in changes.changes for entry in _entries(change)]


def _entries(change: Change) -> Iterator[dict[str, Any]]:
    named = {"model": change.model, "key": change.key, "object": change.label}
    if change.after is None:
        yield {**named, "removed": True}
    for name in change.fields if change.after is not None else ():
        before, after = (rows.shown(change.model, row, name) for row in (change.before, change.after))
        if change.before is None and after in (None, "", []):
            continue
        yield {**named, "new": change.before is None, "field": name, "before": before, "after": after}


# Carrying out


def _describe(approval: ApprovalRequest) -> ChangeSet:
    """The changes, if every object is still what it was. Raises StaleContent that names the first that is not."""
    changes = ChangeSet.load(approval.payload)
    for change in changes.changes:
        if change.before is None and not change.restores:
            continue
        now = rows.read(rows.model_of(change.model), change.key)
        if not capture.same(change.model, now, change.before):
            raise StaleContent(_("“%(object)s” was changed meanwhile") % {"object": change.label})
    return replace(changes, shown=described(changes))


def _execute(approval: ApprovalRequest, changes: ChangeSet) -> ApprovalState:
    """All of it or nothing, after a snapshot of what was."""
    try:
        with transaction.atomic():
            with capture.captured() as seen:
                keys = write(changes)
            written = seen.changes()
            _require_same(changes, written)
            configuration.note_affected(written)
            connection.check_constraints()
    except models.ProtectedError as error:
        kept = ", ".join(str(row) for row in list(error.protected_objects)[:5])
        raise Invalid(_("Other objects depend on it: %(objects)s.") % {"objects": kept}) from error
    except DatabaseError as error:
        raise Invalid(_("The database refuses it: %(why)s") % {"why": str(error).splitlines()[0]}) from error
    Snapshot.objects.create(
        request=approval,
        taken_at=timezone.now(),
        before=[change for change in changes.dump()["changes"] if change["before"] is not None],
        created=[[change.model, keys[change.model, change.key]] for change in changes.changes if change.before is None],
    )
    return ApprovalState.EXECUTED


def write(changes: ChangeSet) -> dict[tuple[str, int], int]:
    """Write everything; returns under which keys new objects were stored."""
    keys: dict[tuple[str, int], int] = {}
    stored = [(change, _store(change, keys)) for change in changes.changes if change.after is not None]
    for change, made in stored:
        _relate(change, made, keys)
    for change in changes.removed:
        for row in rows.model_of(change.model)._base_manager.filter(pk=change.key):
            row.delete()
    for change, made in stored:
        if change.model in _afterwards:
            made.refresh_from_db()
            _afterwards[change.model](change, made)
    return keys


def _store(change: Change, keys: dict[tuple[str, int], int]) -> models.Model:
    """The object's own columns; where it is new, ``keys`` learns its key."""
    known = change.before is not None or change.restores
    made = rows.build(change.model, change.key if known else None, change.after or {})
    _refer(made, keys)
    if change.before is None:
        made.save(force_insert=True)
        keys[change.model, change.key] = made.pk
    elif own := {column.name for column in made._meta.local_concrete_fields} & set(change.fields):
        made.save(update_fields=sorted(own))
    return made


def _relate(change: Change, made: models.Model, keys: Mapping[tuple[str, int], int]) -> None:
    """Its many-to-many relations, once everything that they may lead to is there."""
    for relation in made._meta.local_many_to_many:
        if relation.name in change.fields:
            other = relation.related_model._meta.label_lower
            to = [keys.get((other, key), key) for key in change.becomes(relation.name) or ()]
            getattr(made, relation.name).set(to)


def _refer(made: models.Model, keys: Mapping[tuple[str, int], int]) -> None:
    """Let references to objects that are new in this set lead to the keys that they got."""
    for column in made._meta.local_concrete_fields:
        if isinstance(column, models.ForeignKey):
            to = (column.related_model._meta.label_lower, getattr(made, column.attname))
            if to in keys:
                setattr(made, column.attname, keys[to])


def _require_same(approved: ChangeSet, seen: Sequence[Change]) -> None:
    """What was written is what was approved: nothing less, and nothing that came along."""
    if _gist(approved.changes) != _gist(seen):
        raise Invalid(_("More or other things would have changed than were shown; nothing was done. Ask anew."))


def _gist(changes: Sequence[Change]) -> Counter[tuple[Any, ...]]:
    return Counter(
        (change.model, None if change.before is None else change.key, change.before is None, change.after is None)
        for change in changes
    )


_PROCEDURE = approvals.Procedure(describe=_describe, execute=_execute)
for _kind in actions.registry:
    if isinstance(_kind, actions.ChangeAction):
        approvals.carries_out(_kind.kind, _PROCEDURE)
