"""Archive files: what leaves the searchable table, with everything that proves it, in a folder outside the database.

JSON Lines under gzip. The first line is a header; each further line is a group, as ``audit.proof`` describes it: one
seal with its events of this file. An event has its key here too, but not its erasable details: those stay in the
database for as long as the archive is kept, so that they can still be erased.

A file counts only once it was read back as a whole from the disk and every event in it has proved to be sealed.
"""

import gzip
import hashlib
import json
import os
import re
import tempfile
import time
import uuid
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from audit import keys, proof, rows, search_index
from audit.models import AuditEvent, AuditLeaf, AuditSeal
from audit.sealing import statement
from audit.search import Search, expression_of

FORMAT, VERSION = "compliance-bot/audit-archive", 1
_NAME = re.compile(r"audit-\d{8}-[0-9a-f]{16}\.jsonl\.gz")
_UNFINISHED = "unfinished-"
_SEALS_AT_ONCE = 20


class ArchiveError(Exception):
    """The archive cannot be written, or does not prove what it says. The message names the place and the remedy."""

    def __init__(self, message: str | Promise) -> None:
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Archived:
    """One event of an archive file; ``told`` is what its text says."""

    pk: int
    canon: str
    nonce: bytes
    told: dict[str, Any]

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.told["at"])

    @property
    def row_hash(self) -> bytes:
        return proof.row_hash(self.canon, self.nonce)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file that was read back and proved. ``events``: (key, hash) in the order of the keys."""

    name: str
    sha256: bytes
    events: list[tuple[int, bytes]]
    first_at: datetime
    last_at: datetime


# Names


def path_of(name: str) -> Path:
    """Where the file of this name lies. A name that could lead out of the folder is refused."""
    if not _NAME.fullmatch(name):
        raise ArchiveError(_("%(name)s is not the name of an archive file.") % {"name": name})
    return Path(settings.AUDIT_ARCHIVE_DIR) / name


def is_there(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and path_of(name).is_file()


def names() -> list[str]:
    """The archive files in the folder, oldest first."""
    folder = Path(settings.AUDIT_ARCHIVE_DIR)
    return sorted(path.name for path in folder.glob("audit-*") if _NAME.fullmatch(path.name))


def digest_of(name: str) -> bytes:
    with path_of(name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def remove(name: str) -> None:
    path_of(name).unlink(missing_ok=True)
    _sync(Path(settings.AUDIT_ARCHIVE_DIR))


# Writing


def write(n: int, pks: Sequence[int], now: datetime) -> Written:
    """Put these sealed events into the file for grant ``n`` and prove it. Raises ArchiveError; nothing is left then."""
    folder = Path(settings.AUDIT_ARCHIVE_DIR)
    with _visible_failure(folder), _temporary(folder) as (file, path):
        _write_lines(file, _header(n, now), _groups(pks))
        written = _read_back(path, n, pks)
        path.rename(folder / written.name)
        _sync(folder)
    return written


@contextmanager
def _visible_failure(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveError(
            _("The archive cannot be written to %(folder)s (%(problem)s). Make room or repair it; nothing was purged.")
            % {"folder": folder, "problem": error.strerror or error}
        ) from error
    except proof.Broken as error:
        raise ArchiveError(
            _("The archive does not prove what it says (%(problem)s). Verify the trail; nothing was purged.")
            % {"problem": error}
        ) from error


@contextmanager
def _temporary(folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file that only we can read; gone again unless it was renamed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _tidy(folder)
    handle, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=folder)  # mode 0600
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    """What a crash in the middle of writing left behind; nobody writes at one file for a day."""
    for path in folder.glob(f"{_UNFINISHED}*"):
        if path.stat().st_mtime < time.time() - 86_400:
            path.unlink(missing_ok=True)


def _header(n: int, now: datetime) -> dict[str, Any]:
    public = [key.public_bytes_raw().hex() for key in keys.public_keys().values()]
    made_at = now.astimezone(UTC).isoformat(timespec="microseconds")
    return {"format": FORMAT, "version": VERSION, "grant": n, "made_at": made_at, "public_keys": public}


def _write_lines(file: IO[bytes], header: Mapping[str, Any], groups: Iterable[Mapping[str, Any]]) -> None:
    """All of it, on the disk when this returns."""
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as text:
        for line in (header, *groups):
            text.write(proof.canonical(line).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make names in a folder last over a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _groups(pks: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The events by their seals, a few seals in memory at a time. Raises Broken at a row that was tampered with."""
    places: defaultdict[int, dict[int, int]] = defaultdict(dict)
    leaves = AuditLeaf.objects.filter(event_pk__in=pks).values_list("seal_n", "position", "event_pk")
    for seal_n, position, pk in leaves:
        places[seal_n][position] = pk
    numbers = sorted(places)
    for start in range(0, len(numbers), _SEALS_AT_ONCE):
        some = numbers[start : start + _SEALS_AT_ONCE]
        hashes = _hashes(some)
        events = _events([pk for n in some for pk in places[n].values()])
        for seal in AuditSeal.objects.filter(n__in=some).order_by("n"):
            positions = sorted(places[seal.n])
            yield {
                "seal": json.loads(statement(seal)),
                "signature": bytes(seal.signature).hex(),
                "positions": positions,
                "hashes": [branch.hex() for branch in proof.branches(hashes[seal.n], positions)],
                "events": [events[places[seal.n][position]] for position in positions],
            }


def _hashes(seals: Sequence[int]) -> Mapping[int, list[bytes]]:
    found: defaultdict[int, list[bytes]] = defaultdict(list)
    leaves = AuditLeaf.objects.filter(seal_n__in=seals).order_by("seal_n", "position")
    for seal_n, row_hash in leaves.values_list("seal_n", "row_hash"):
        found[seal_n].append(bytes(row_hash))
    return found


def _events(pks: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The rows as a group holds them, once each has proved to say what its text says."""
    found = {}
    for start in range(0, len(pks), 1000):
        for row in rows.of_keys(pks[start : start + 1000]):
            if problem := rows.problem(row):
                raise proof.Broken(f"event {row[rows.PK]} {problem}")
            told = {"pk": row[rows.PK], "canon": row[rows.CANON], "nonce": bytes(row[rows.NONCE]).hex()}
            found[row[rows.PK]] = told
    return found


def _read_back(path: Path, n: int, pks: Sequence[int]) -> Written:
    """The file as it lies on the disk: complete, and every event of it proved. Raises Broken."""
    events, times = [], []
    for event in _proved(path):
        events.append((event.pk, event.row_hash))
        times.append(event.at)
    events.sort()
    if [pk for pk, _hash in events] != sorted(pks):
        raise proof.Broken("the file does not hold the events that it was to hold")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256")
    return Written(
        name=f"audit-{n:08d}-{sha256.hexdigest()[:16]}.jsonl.gz",
        sha256=sha256.digest(),
        events=events,
        first_at=min(times),
        last_at=max(times),
    )


# Reading


def header_of(path: Path) -> dict[str, Any]:
    """The first line. Raises Broken when this is no archive file of ours."""
    return next(_lines(path))


def read(path: Path) -> Iterator[Archived]:
    """The events of a file, a group in memory at a time. Raises Broken where it is damaged; proves nothing."""
    lines = _lines(path)
    next(lines)
    for group in lines:
        yield from _archived(group)


def check(path: Path) -> int:
    """Prove a whole file: how many events it holds. Raises Broken."""
    return sum(1 for _event in _proved(path))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Header and groups."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            header = json.loads(file.readline() or "{}")
            if header.get("format") != FORMAT or header.get("version") != VERSION:
                raise proof.Broken(f"{path.name} is no archive file, or one of another version")
            yield header
            yield from map(json.loads, file)
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
        raise proof.Broken(f"{path.name} is damaged: {error}") from error


def _archived(group: Mapping[str, Any]) -> Iterator[Archived]:
    for event in group["events"]:
        yield Archived(event["pk"], event["canon"], bytes.fromhex(event["nonce"]), json.loads(event["canon"]))


def _proved(path: Path) -> Iterator[Archived]:
    """The events, each group of them once seal, branches and texts have proved to belong together."""
    public = keys.public_keys()
    lines = _lines(path)
    next(lines)
    for group in lines:
        _check_signature(group, public)
        proof.check_events(group)
        yield from _archived(group)


def _check_signature(group: Mapping[str, Any], public: Mapping[str, Ed25519PublicKey]) -> None:
    """As ``proof`` does it, but by a library: there may be thousands of seals in a file."""
    seal = group["seal"]
    if seal["key"] not in public:
        raise proof.Broken(f"seal {seal['n']} is signed by the unknown key {seal['key']}")
    try:
        public[seal["key"]].verify(bytes.fromhex(group["signature"]), proof.canonical(seal).encode())
    except InvalidSignature:
        raise proof.Broken(f"seal {seal['n']}: its signature is not valid") from None


# Searching


def matches(event: Archived, search: Search) -> bool:
    """Whether an archived event is found by the same search that would have found it in the table."""
    if (search.since and event.at < search.since) or (search.until and event.at >= search.until):
        return False
    ids = {event.told["request_id"], event.told["event_id"]}
    if not (_ids_in(search.q) <= ids and (search.request is None or str(search.request) == event.told["request_id"])):
        return False
    expression = expression_of(search)
    return not expression or search_index.holds(search_index.tokens_of(_as_row(event)), expression)


def _ids_in(q: str) -> set[str]:
    """The request and event ids among the words of a search; they are no words."""
    found = set()
    for chunk in q.split():
        if len(chunk) in {32, 36}:
            with suppress(ValueError):
                found.add(str(uuid.UUID(chunk)))
    return found


def _as_row(event: Archived) -> AuditEvent:
    """As it stood in the table; never saved."""
    return AuditEvent(canon=event.canon, **{name: event.told[name] for name in rows.PLAIN})
