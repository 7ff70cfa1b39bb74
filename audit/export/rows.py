"""The rows of a file as bytes, newest first, piece by piece. Between two pieces no transaction stays open."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

from audit import payloads, proof, search
from audit.export import columns, seals
from audit.export.seals import SealRange
from audit.models import AuditEvent
from audit.search import Search

CSV, JSONL = "csv", "jsonl"
# Keys in one piece: so many neighbours, or so many that an index found.
_NEIGHBOURS = 10_000
_FOUND = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """``below``: everything from this key on has been written; go on below it."""

    data: bytes
    rows: int
    below: int
    seals: SealRange


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the table some rows of the file are."""

    condition: str
    arguments: Sequence[Any]
    below: int
    span: tuple[int, int] | None = None
    """Where these are all rows between two keys (perhaps less those of other times)."""


_Writer = Callable[[Sequence[str], str, Sequence[Any]], tuple[bytes, int]]


def heading(names: Sequence[str], form: str, bom: str = "") -> bytes:
    """What stands above the rows."""
    return (bom + ",".join(names) + "\r\n").encode() if form == CSV else b""


def pieces(asked: Search, names: Sequence[str], form: str, *, below: int) -> Iterator[Piece]:
    """Everything that matches and has a key below ``below``."""
    if columns.DETAILS in names:
        yield from _with_details(asked, names, form, below)
        return
    write = _WRITERS[connection.vendor, form]
    for place in _places(asked, below):
        data, count = write(names, f"FROM audit_auditevent WHERE {place.condition} ORDER BY id DESC", place.arguments)
        covered = seals.over_span(*place.span, count) if place.span else None
        covered = covered or seals.over(place.condition, place.arguments)
        yield Piece(data=data, rows=count, below=place.below, seals=covered)


def _places(asked: Search, below: int) -> Iterator[_Place]:
    between = search.span(asked, below=below)
    if between is None:
        for keys in search.chunks(asked, below=below, size=_FOUND):
            yield _of_keys(keys)
        return
    above, below = between
    in_time, times = _in_time(asked)
    while below > above + 1:
        lowest = max(above, below - 1 - _NEIGHBOURS)
        yield _Place(f"id > %s AND id < %s{in_time}", [lowest, below, *times], lowest + 1, (lowest, below))
        below = lowest + 1


def _of_keys(keys: Sequence[int]) -> _Place:
    if connection.vendor == "postgresql":
        return _Place("id = ANY(%s)", [list(keys)], keys[-1])
    return _Place("id IN (SELECT value FROM json_each(%s))", [json.dumps(list(keys))], keys[-1])


def _in_time(asked: Search) -> tuple[str, list[Any]]:
    bounds = [(" AND at >= %s", asked.since), (" AND at < %s", asked.until)]
    given = [(text, connection.ops.adapt_datetimefield_value(at)) for text, at in bounds if at is not None]
    return "".join(text for text, _at in given), [at for _text, at in given]


# Finished by the database


def _csv_of_postgresql(names: Sequence[str], rows: str, arguments: Sequence[Any]) -> tuple[bytes, int]:
    statement = f"COPY (SELECT {', '.join(columns.neutral(names))} {rows}) TO STDOUT (FORMAT csv)"
    with connection.cursor() as cursor, cursor.copy(statement, arguments) as copy:
        # One message a row, and a line feed at its end.
        lines = [bytes(row)[:-1] for row in copy]
    return _ended(lines, b"\r\n"), len(lines)


def _csv_of_sqlite(names: Sequence[str], rows: str, arguments: Sequence[Any]) -> tuple[bytes, int]:
    """The database puts the whole piece together: what people wrote in quotation marks, those inside doubled (%w)."""
    marks = ",".join('"%%w"' if name in columns.FREE else "%%s" for name in names)
    line = f"printf('{marks}', {', '.join(columns.neutral(names))})"
    whole = "CAST(group_concat(line, char(13, 10)) AS BLOB)"
    sql = f"SELECT count(*), {whole} FROM (SELECT {line} AS line {rows})"  # noqa: S608 - our own names
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments)
        count, data = cursor.fetchone()
    return data + b"\r\n" if count else b"", count


def _jsonl_of_postgresql(names: Sequence[str], rows: str, arguments: Sequence[Any]) -> tuple[bytes, int]:
    inner = f"SELECT {', '.join(columns.plain(names))} {rows}"
    return _texts(f"SELECT row_to_json(row)::text FROM ({inner}) row", arguments)  # noqa: S608


def _jsonl_of_sqlite(names: Sequence[str], rows: str, arguments: Sequence[Any]) -> tuple[bytes, int]:
    inner = f"SELECT {', '.join(columns.plain(names))} {rows}"
    pairs = ", ".join(f"'{name}', \"{name}\"" for name in names)
    return _texts(f"SELECT json_object({pairs}) FROM ({inner})", arguments)  # noqa: S608


def _texts(sql: str, arguments: Sequence[Any]) -> tuple[bytes, int]:
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments)
        lines = [line.encode() for (line,) in cursor.fetchall()]
    return _ended(lines, b"\n"), len(lines)


def _ended(lines: list[bytes], end: bytes) -> bytes:
    return end.join([*lines, b""])


_WRITERS: Mapping[tuple[str, str], _Writer] = {
    ("postgresql", CSV): _csv_of_postgresql,
    ("postgresql", JSONL): _jsonl_of_postgresql,
    ("sqlite", CSV): _csv_of_sqlite,
    ("sqlite", JSONL): _jsonl_of_sqlite,
}


# Finished here, from the text that is hashed


def _with_details(asked: Search, names: Sequence[str], form: str, below: int) -> Iterator[Piece]:
    """The slower way: the erasable details are encrypted, and the others stand in the text only."""
    for keys in search.chunks(asked, below=below, size=_FOUND):
        events = AuditEvent.objects.filter(pk__in=keys).order_by("-pk").only("pk", "canon", "payload_digest")
        kept = payloads.texts(events)
        cells = [proof.cells(json.loads(event.canon), kept.get(event.pk)) for event in events]
        place = _of_keys(keys)
        covered = seals.over(place.condition, place.arguments)
        yield Piece(data=written(cells, names, form), rows=len(cells), below=place.below, seals=covered)


def written(cells: Sequence[Mapping[str, str]], names: Sequence[str], form: str) -> bytes:
    """These rows, as a file holds them."""
    if form == CSV:
        return _as_csv([[proof.neutral(row[name]) for name in names] for row in cells])
    lines = [json.dumps({name: row[name] for name in names}, ensure_ascii=False).encode() for row in cells]
    return _ended(lines, b"\n")


def _as_csv(cells: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(cells)
    return text.getvalue().encode()
