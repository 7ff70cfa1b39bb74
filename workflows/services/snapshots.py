"""Back to what was: a snapshot is taken before every approved change, and a rollback is a change like any other.

It is asked for, shown field by field against what is there now, decided by a second person, and has a snapshot of its
own, so that it can be taken back as well.
"""

from collections.abc import Iterator

from django.contrib.auth.models import User
from django.db import DatabaseError, connection, models, transaction
from django.utils.translation import gettext as _

from workflows.domain.changes import Change, ChangeSet, Row
from workflows.domain.errors import Invalid, NotPermitted, WrongState
from workflows.models import ApprovalRequest, Snapshot
from workflows.services import capture, changes, rows


def roll_back(*, snapshot_id: int, by: User, reason: str) -> ApprovalRequest:
    """Ask to restore what a request changed. Raises Invalid that says exactly what stands in the way."""
    snapshot = Snapshot.objects.select_related("request").get(pk=snapshot_id)
    if not may_roll_back(snapshot.request, by):
        raise NotPermitted(_("Only who asked for it, an officer or an administrator can ask for the rollback."))
    back = difference(snapshot, by)
    if not back.changes:
        raise WrongState(_("Everything is as it was before."))
    if found := list(obstacles(back)):
        raise Invalid(_("It cannot be rolled back: %(why)s") % {"why": " ".join(found)})
    return changes.ask(back, by=by, reason=reason, action="rollback", previous=snapshot.request)


def may_roll_back(request: ApprovalRequest, by: User) -> bool:
    """Whoever may read a request may not therefore ask for changes of what their own role does not touch."""
    oversees = by.has_perm("workflows.decide_approvalrequest") or by.has_perm("workflows.break_glass")
    return by.pk == request.requested_by_id or oversees


def difference(snapshot: Snapshot, by: User) -> ChangeSet:
    """What has to change so that everything is as in the snapshot; what was changed since is overwritten, and shown."""
    back = [_restored(Change.load(data)) for data in snapshot.before]
    for label, key in snapshot.created:
        model = rows.model_of(label)
        found = model._base_manager.filter(pk=key).first()
        if found is not None:
            back.append(Change(model=label, key=key, label=str(found)[:200], before=rows.of(found), after=None))
    return ChangeSet(
        changes=[change for change in back if not capture.same(change.model, change.before, change.after)], by=by.pk
    )


def _restored(change: Change) -> Change:
    now = rows.read(rows.model_of(change.model), change.key)
    after = change.before if now is None else _with_own(change, now)
    return Change(model=change.model, key=change.key, label=change.label, before=now, after=after, restores=True)


def _with_own(change: Change, now: Row) -> Row:
    """What only services write, such as when a source was last read, is no part of what is restored."""
    return {**now, **(capture.kept(rows.model_of(change.model), change.before) or {})}


def obstacles(back: ChangeSet) -> Iterator[str]:
    """Sentences: what is missing that restored objects refer to, what has taken their place, what depends on others."""
    comes_back = {(change.model, change.key) for change in back.changes if change.before is None}
    for change in back.changes:
        if change.after is not None:
            yield from _lost_references(change, comes_back)
    try:
        with transaction.atomic():
            changes.write(back)
            connection.check_constraints()
            transaction.set_rollback(True)
    except models.ProtectedError as error:
        kept = ", ".join(sorted({str(row) for row in error.protected_objects})[:5])
        yield _("Other objects depend on what was new: %(objects)s.") % {"objects": kept}
    except DatabaseError as error:
        yield _("The database refuses it: %(why)s.") % {"why": str(error).splitlines()[0]}


def _lost_references(change: Change, comes_back: set[tuple[str, int]]) -> Iterator[str]:
    for column in rows.model_of(change.model)._meta.get_fields():
        if not isinstance(column, models.ForeignKey | models.ManyToManyField):
            continue
        value = change.becomes(column.name)
        keys = value if isinstance(value, list) else [value] if value is not None else []
        other = column.related_model
        there = set(other._base_manager.filter(pk__in=keys).values_list("pk", flat=True))
        lost = [key for key in keys if key not in there and (other._meta.label_lower, key) not in comes_back]
        if lost:
            facts = {"object": change.label, "kind": other._meta.verbose_name, "keys": ", ".join(map(str, lost))}
            yield _("“%(object)s” refers to %(kind)s %(keys)s, which is gone.") % facts
