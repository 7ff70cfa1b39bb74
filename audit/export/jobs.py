"""Exports that workers prepare: slice by slice, each piece saved before the next, so that nothing is done twice.

The row is the truth. A worker takes it with a lease; what a crash left behind in the file is cut off by the next one.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from audit import context, notices, proof, sealing, search
from audit.export import files, package, rows
from audit.export.seals import SealRange
from audit.export.stream import Export
from audit.forms import SearchForm
from audit.models import AuditExport, ExportForm, ExportState
from audit.recorder import Outcome, record
from audit.search import Search
from audit.vocabulary import TrailEvent
from compliance_bot.guardrails import policy

# For rooms that hand jobs on without knowing our tables.
Job = AuditExport

PERMISSION = "audit.export_auditevent"
_UNFINISHED = (ExportState.QUEUED, ExportState.RUNNING)
_STOPPABLE = (ExportState.WAITING, *_UNFINISHED, ExportState.READY)
# A hint may wait this long in the queue before another one is sent.
_HANDED_OUT = timedelta(seconds=200)
# A worker is killed after 60 seconds, so whoever has not given its row back by then is gone.
logger = logging.getLogger(__name__)

_LEASE = timedelta(seconds=90)
_SLICE = 30.0


class Refused(Exception):
    """The export cannot be made; the message is a sentence for its owner."""

    def __init__(self, message: str | Promise) -> None:
        super().__init__(message)


class _Stopped(Exception):
    """Somebody cancelled it meanwhile."""


def is_for_background(export: Export, count: int) -> bool:
    """Whether it is prepared instead of streamed: it is large, or holds proofs."""
    return export.form == ExportForm.PACKAGE or count > search.COUNT_LIMIT or needs_approval(count)


def needs_approval(count: int) -> bool:
    """Whether the policy wants a second person for so many rows; what nobody counts to the end is large."""
    rules = policy.current().actions
    threshold = rules.rule("audit_export").threshold
    if threshold is None or not rules.needs_approval("audit_export"):
        return False
    return count >= threshold or count > search.COUNT_LIMIT


_Gate = Callable[[AuditExport], None]
_gates: list[_Gate] = []


def put_before_gate(ask: _Gate) -> None:
    """Declare who asks a second person for a large export; it calls ``let_go`` or ``refuse``."""
    _gates.append(ask)


def waiting(pk: int) -> AuditExport | None:
    """An export that waits for approval."""
    return AuditExport.objects.select_related("owner").filter(pk=pk, state=ExportState.WAITING).first()


def let_go(pk: int) -> None:
    """A second person agreed: a worker may begin."""
    AuditExport.objects.filter(pk=pk, state=ExportState.WAITING).update(state=ExportState.QUEUED)


def refuse(pk: int, why: str) -> None:
    """It is not made; its owner reads why."""
    job = waiting(pk)
    if job is not None:
        _fail(job, _("Not approved: %(why)s") % {"why": why})


def ask(export: Export, *, owner: User, copy_as: str = "") -> AuditExport:
    """Queue an export for its owner, under the cause in force."""
    count = search.count(export.search)
    with transaction.atomic():
        job = AuditExport.objects.create(
            owner=owner,
            query=export.search.address(),
            form=export.form,
            bom=bool(export.bom),
            columns=list(export.columns),
            reason=export.reason,
            request_id=context.current().request_id,
            rows_expected=count if count <= search.COUNT_LIMIT else None,
            created_at=timezone.now(),
            copy_as=copy_as,
            state=ExportState.WAITING if needs_approval(count) else ExportState.QUEUED,
        )
        started = record(TrailEvent.EXPORT_STARTED, target=job, why=export.reason, facts=export.facts())
        job.started_event_id = started.event_id
        job.below_pk = job.next_below = started.pk
        job.save(update_fields=["started_event_id", "below_pk", "next_below"])
        for put in _gates if needs_approval(count) else ():
            put(job)
    return job


def due(now: datetime) -> QuerySet[AuditExport]:
    """What wants a worker: not begun, between two slices, or left by a worker that vanished."""
    free = Q(lease_until=None) | Q(lease_until__lte=now)
    return AuditExport.objects.filter(free, state__in=_UNFINISHED).select_related("owner").order_by("pk")


def reserve(job: AuditExport, now: datetime) -> bool:
    """Whether this caller may hand the row out; another clock may have been first."""
    same = AuditExport.objects.filter(pk=job.pk, state=job.state, lease_until=job.lease_until)
    return bool(same.update(lease_until=now + _HANDED_OUT))


def under(job: AuditExport) -> AbstractContextManager[context.Cause]:
    """The cause under which everything for this row happens."""
    return context.system_acting(request_id=job.request_id, on_behalf_of=job.owner.get_username())


def work(pk: int) -> None:
    """One slice of an export, or its end. A doubled hint finds the file locked, a late one the row finished."""
    now = timezone.now()
    if not _still(pk).update(state=ExportState.RUNNING, lease_until=now + _LEASE):
        return
    job = AuditExport.objects.select_related("owner").get(pk=pk)
    with under(job):
        try:
            _require_permission(job.owner)
            _slice(job)
        except files.Busy:
            return
        except (_Stopped, AuditExport.DoesNotExist):
            files.remove(job)
        except package.NotSealed:
            _still(pk).update(lease_until=now + timedelta(seconds=5))
        except (PermissionDenied, Refused, OSError) as error:
            _fail(job, _problem(error))
        except Exception:
            # Whatever it is, it would be so at each try: the owner has to see it, and the log says what it was.
            logger.exception("export %s", pk)
            _fail(job, _("Something went wrong; the server's log says what."))


def _problem(error: Exception) -> str:
    """What the owner is told."""
    if isinstance(error, PermissionDenied):
        return _("Its owner may no longer export.")
    if isinstance(error, OSError):
        facts = {"folder": settings.AUDIT_EXPORT_DIR, "problem": error.strerror or error}
        return _("%(folder)s: %(problem)s. Make room or repair it, then export again.") % facts
    return str(error)


def cancel(job: AuditExport) -> bool:
    """Stop it, or remove what is ready. Whether there was anything to stop."""
    with transaction.atomic():
        stoppable = AuditExport.objects.filter(pk=job.pk, state__in=_STOPPABLE)
        if not stoppable.update(state=ExportState.CANCELLED, finished_at=timezone.now(), lease_until=None):
            return False
        record(TrailEvent.EXPORT_CANCELLED, target=job, why=job.reason)
    files.remove(job)
    return True


def download(job: AuditExport, by: User) -> IO[bytes]:
    """The finished file, for its owner alone; on the trail. Raises PermissionDenied, and Refused when it is gone."""
    if job.owner_id != by.pk or job.state != ExportState.READY:
        raise PermissionDenied
    _require_permission(job.owner)
    try:
        file = files.finished(job).open("rb")
    except OSError as error:
        raise Refused(_("The file is no longer there. Export again.")) from error
    with transaction.atomic():
        record(TrailEvent.EXPORT_DOWNLOADED, target=job, why=job.reason, facts={"sha256": job.sha256})
    return file


def expire(now: datetime, until: float) -> bool:
    """Remove files whose time is over, until the monotonic clock says ``until``. Whether none is left."""
    over = AuditExport.objects.filter(state=ExportState.READY, expires_at__lte=now).select_related("owner")
    for job in over.order_by("pk").iterator(chunk_size=200):
        if time.monotonic() >= until:
            return False
        _expire(job)
    return True


def _expire(job: AuditExport) -> None:
    with under(job), transaction.atomic():
        if not AuditExport.objects.filter(pk=job.pk, state=ExportState.READY).update(state=ExportState.EXPIRED):
            return
        record(TrailEvent.EXPORT_EXPIRED, target=job)
    files.remove(job)


def _still(pk: int) -> QuerySet[AuditExport]:
    """The row, unless it was stopped or finished."""
    return AuditExport.objects.filter(pk=pk, state__in=_UNFINISHED)


def _require_permission(owner: User) -> None:
    if not (owner.is_active and owner.has_perm(PERMISSION)):
        raise PermissionDenied


def _search_of(job: AuditExport) -> Search:
    form = SearchForm(QueryDict(job.query))
    if not form.is_valid():
        raise Refused(_("Its search can no longer be read: %(query)s") % {"query": job.query[:200]})
    return form.search()


def _slice(job: AuditExport) -> None:
    """Write for a while, and save each piece; when nothing is left, finish the file."""
    until = time.monotonic() + _SLICE
    if job.form == ExportForm.PACKAGE and job.bytes_done == 0:
        sealing.sweep(timezone.now())
    with ExitStack() as stack:
        data = stack.enter_context(files.resumed(files.part(job, "rows"), job.bytes_done))
        proofs = None
        if job.form == ExportForm.PACKAGE:
            proofs = stack.enter_context(files.resumed(files.part(job, "proofs"), job.proofs_done))
        if job.bytes_done == 0:
            bom = proof.BOM if job.bom else ""
            _save(job, bytes_done=files.save(data, rows.heading(job.columns, _form_of_data(job), bom)))
        for changes in _written(job, data, proofs):
            _save(job, **changes)
            if time.monotonic() >= until:
                _still(job.pk).update(lease_until=None)
                return
        _finish(job)


def _form_of_data(job: AuditExport) -> str:
    return rows.CSV if job.form == ExportForm.PACKAGE else job.form


def _written(job: AuditExport, data: IO[bytes], proofs: IO[bytes] | None) -> Iterator[dict[str, int | None]]:
    """Write piece after piece, and say how far the file is."""
    asked, below = _search_of(job), job.next_below or 0
    if proofs is None:
        for plain in rows.pieces(asked, job.columns, job.form, below=below):
            done = files.save(data, plain.data)
            yield {"bytes_done": done, **_progress(job, plain)}
        return
    for proved in package.pieces(asked, job.columns, below=below):
        if job.rows_done + proved.rows > package.MOST:
            text = _("A package with proofs holds at most %(most)s rows. Narrow the time, and export again.")
            raise Refused(text % {"most": f"{package.MOST:,}"})
        yield {
            "bytes_done": files.save(data, proved.data),
            "proofs_done": files.save(proofs, proved.proofs),
            **_progress(job, proved),
        }


def _progress(job: AuditExport, piece: rows.Piece | package.Piece) -> dict[str, int | None]:
    seals = _seals(job).with_rows_of(piece.seals)
    return {"rows_done": job.rows_done + piece.rows, "next_below": piece.below, **asdict(seals)}


def _save(job: AuditExport, **changes: int | None) -> None:
    if not _still(job.pk).update(lease_until=timezone.now() + _LEASE, **changes):
        raise _Stopped
    for name, value in changes.items():
        setattr(job, name, value)


def _finish(job: AuditExport) -> None:
    data, now = files.part(job, "rows"), timezone.now()
    facts = _facts(job, complete=True) | {"sha256": package.digest(data)}
    if job.form == ExportForm.PACKAGE:
        data = _packed(job, facts, now)
    path = files.finished(job)
    files.publish(data, path)
    if job.copy_as:
        _deliver(job, path)
    with transaction.atomic():
        kept = timedelta(days=policy.current().retention.exports)
        done = {"finished_at": now, "expires_at": now + kept, "lease_until": None, "size": path.stat().st_size}
        file_sha256 = package.digest(path) if job.form == ExportForm.PACKAGE else facts["sha256"]
        if not _still(job.pk).update(state=ExportState.READY, sha256=file_sha256, **done):
            raise _Stopped
        record(TrailEvent.EXPORT_FINISHED, target=job, why=job.reason, facts={**facts, "file_sha256": file_sha256})
    for what in ("rows", "proofs", "package"):
        files.part(job, what).unlink(missing_ok=True)
    if job.copy_as:
        _tell(job)


def _facts(job: AuditExport, *, complete: bool) -> dict[str, Any]:
    return {
        "query": job.query,
        "form": job.form,
        "columns": job.columns,
        "rows": job.rows_done,
        "complete": complete,
        "started_by_event": str(job.started_event_id),
        **asdict(_seals(job)),
    }


def _seals(job: AuditExport) -> SealRange:
    """Over the rows so far."""
    return SealRange(first_seal=job.first_seal, last_seal=job.last_seal, unsealed=job.unsealed)


def _packed(job: AuditExport, facts: Mapping[str, Any], now: datetime) -> Path:
    said = package.manifest(facts, by=job.owner.get_username(), reason=job.reason, made_at=now)
    path = files.part(job, "package")
    with files.resumed(path, 0) as file:
        package.write(file, files.part(job, "rows"), files.part(job, "proofs"), said)
        files.save(file, b"")
    return path


def _deliver(job: AuditExport, path: Path) -> None:
    """Put a report into its folder, whole or not at all."""
    folder = Path(settings.AUDIT_REPORT_DIR)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = folder / job.copy_as
    draft = folder / f".{job.key}.part"
    with files.resumed(draft, 0) as copy, path.open("rb") as file:
        shutil.copyfileobj(file, copy, 2**20)
        files.save(copy, b"")
    draft.rename(target)
    files.sync(target)


def _tell(job: AuditExport) -> None:
    facts = {"name": job.copy_as, "rows": job.rows_done, "folder": settings.AUDIT_REPORT_DIR}
    notices.tell(
        _("Report %(name)s is ready") % facts,
        _("%(name)s with %(rows)s events lies in %(folder)s.") % facts,
    )


def _tell_failure(job: AuditExport, problem: str) -> None:
    """Nobody waits for a report at a screen, so nobody would see that it is missing."""
    facts = {"name": job.copy_as, "problem": problem}
    notices.tell(
        _("Report %(name)s could not be made") % facts,
        _("%(name)s could not be made: %(problem)s") % facts,
    )


def _fail(job: AuditExport, problem: str) -> None:
    with transaction.atomic():
        failed = {"state": ExportState.FAILED, "problem": problem[:300], "finished_at": timezone.now()}
        open_rows = AuditExport.objects.filter(pk=job.pk, state__in=(ExportState.WAITING, *_UNFINISHED))
        if not open_rows.update(lease_until=None, **failed):
            return
        facts = {**_facts(job, complete=False), "problem": problem}
        record(TrailEvent.EXPORT_FINISHED, target=job, why=job.reason, outcome=Outcome.FAILURE, facts=facts)
    files.remove(job)
    if job.copy_as:
        _tell_failure(job, problem)
