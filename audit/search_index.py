"""The inverted index over the trail: which tokens an event has. Derived from the events, and can be built anew.

SQLite: a contentless FTS5 table; PostgreSQL: a table of tsvectors under a GIN index. Both hold exactly the tokens that
``audit.tokens`` makes, so both find the same. Filters are tokens too (``what=approval.granted``): any combination is
one walk through the index, newest first.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.errors import QueryCanceled

from audit import tokens
from audit.models import AuditEvent

TABLE = f"audit_search_v{tokens.VERSION}"

# All groups, of each at least one alternative, of that every token.
Expression = Sequence[Sequence[Sequence[str]]]

_CREATE = {
    # Only which tokens, not where: half the size, and nothing asks for phrases. The ascii tokenizer leaves alone
    # what is not ASCII; our own tokens are parted by blanks.
    "sqlite": f"""CREATE VIRTUAL TABLE {TABLE} USING fts5(tokens, content='', detail='none', columnsize=0,
        tokenize="ascii tokenchars '=.:-%_~'")""",
    "postgresql": f"""CREATE TABLE {TABLE} (event_pk bigint PRIMARY KEY, tokens tsvector NOT NULL);
        CREATE INDEX {TABLE}_tokens ON {TABLE} USING gin (tokens) WITH (fastupdate = off);
        ALTER TABLE {TABLE} ALTER COLUMN tokens SET STATISTICS 1000""",
}


def create(on: BaseDatabaseWrapper) -> None:
    with on.cursor() as cursor:
        cursor.execute(_CREATE[on.vendor])


def drop(on: BaseDatabaseWrapper) -> None:
    with on.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")


def tokens_of(event: AuditEvent) -> list[str]:
    """Every token by which the event is found. Follows from the stored row alone, so that it can be taken back."""
    named = [
        tokens.named("what", event.what),
        tokens.named("area", event.what.partition(".")[0]),
        tokens.named("kind", event.who_kind),
        tokens.named("outcome", event.outcome),
        *(tokens.named("who", name) for name in {event.who_label, event.on_behalf_of} if name),
    ]
    if event.target_type:
        named += [
            tokens.named("type", event.target_type),
            tokens.named("object", f"{event.target_type}:{event.target_id}"),
        ]
    why = tokens.several(iter([event.why]))
    texts = (
        *(event.who_label, event.on_behalf_of, event.what, event.target_type, event.target_id, event.target_label),
        *(event.why, event.ip or ""),
    )
    words = tokens.several(itertools.chain(texts, _texts_in(event.facts)))
    return [*named, *(f".why~{token}" for token in why), *words]


def add(events: Iterable[AuditEvent]) -> None:
    """Index new events, in the transaction that records them."""
    value = "%s" if connection.vendor == "sqlite" else "array_to_tsvector(%s)"
    key = "rowid" if connection.vendor == "sqlite" else "event_pk"
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {TABLE} ({key}, tokens) VALUES (%s, {value})",  # noqa: S608 - our own names
            [(event.pk, stored(event.pk, tokens_of(event))) for event in events],
        )


def remove(events: Iterable[AuditEvent]) -> None:
    """Take events out that are about to be purged. A contentless table has to be told what it held."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.executemany(
                f"INSERT INTO {TABLE} ({TABLE}, rowid, tokens) VALUES ('delete', %s, %s)",  # noqa: S608
                [(event.pk, stored(event.pk, tokens_of(event))) for event in events],
            )
        else:
            pks = [event.pk for event in events]
            cursor.execute(f"DELETE FROM {TABLE} WHERE event_pk = ANY(%s)", [pks])  # noqa: S608


def clear() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"INSERT INTO {TABLE} ({TABLE}) VALUES ('delete-all')")  # noqa: S608
        else:
            cursor.execute(f"DELETE FROM {TABLE}")  # noqa: S608


def holds(found: Iterable[str], expression: Expression) -> bool:
    """Whether these tokens satisfy the expression, without asking the database."""
    have = set(found)

    def has(token: str) -> bool:
        return any(one.startswith(token[:-1]) for one in have) if token.endswith("*") else token in have

    return all(any(all(map(has, every)) for every in alternatives) for alternatives in expression)


def newest(expression: Expression, *, above: int, below: int, limit: int) -> list[int]:
    """Keys of matching events between two keys (both exclusive), newest first."""
    return _DIALECTS[connection.vendor].keys(expression, above, below, limit, "DESC")


def oldest(expression: Expression, *, above: int, below: int, limit: int) -> list[int]:
    """The same, oldest first."""
    return _DIALECTS[connection.vendor].keys(expression, above, below, limit, "ASC")


class TookTooLong(Exception):
    """There are at least ``counted``; there was no time for more."""

    def __init__(self, counted: int) -> None:
        super().__init__(counted)
        self.counted = counted


FOR_EVER = float("inf")


def count(expression: Expression, *, above: int, below: int, limit: int, patience: float = FOR_EVER) -> int:
    """How many match, counted no further than ``limit``. Raises TookTooLong after ``patience`` (seconds)."""
    return _DIALECTS[connection.vendor].count(expression, above, below, limit, patience)


def missing(*, above: int, below: int, limit: int) -> list[int]:
    """Keys of events between two keys that are not in the index: no search would find them."""
    indexed, arguments = _DIALECTS[connection.vendor].everything(above, below)
    sql = f"""SELECT id FROM audit_auditevent WHERE id > %s AND id < %s
        EXCEPT {indexed} ORDER BY 1 LIMIT %s"""  # noqa: S608 - our own names
    return [key for (key,) in _rows(sql, [above, below, *arguments, limit])]


# Every event has an outcome: what the index holds at all.
_ANY: Expression = [[[tokens.named("outcome", outcome)] for outcome in AuditEvent.Outcome.values]]


_BETWEEN = "event_pk > %s AND event_pk < %s"


@dataclass(frozen=True, slots=True)
class _Block:
    """All keys from ``first`` to ``last``; 2 to the power of ``size`` many, the ``number``-th such lot."""

    size: int
    number: int

    @property
    def first(self) -> int:
        return self.number << self.size

    @property
    def last(self) -> int:
        return ((self.number + 1) << self.size) - 1

    @property
    def token(self) -> str:
        return f".block={self.size}:{self.number}"

    @property
    def query(self) -> str:
        return f"'{self.token}'"

    def is_within(self, above: int, below: int) -> bool:
        return above < self.first and self.last < below

    def parts(self, step: int, order: str) -> list[_Block]:
        """The smaller blocks in it."""
        parts = [_Block(self.size - step, (self.number << step) + place) for place in range(2**step)]
        return parts[::-1] if order == "DESC" else parts


class _SQLite:
    """FTS5 walks its posting lists in the order of the keys, either way, so every limit is reached early."""

    def keys(self, expression: Expression, above: int, below: int, limit: int, order: str) -> list[int]:
        sql = f"SELECT rowid FROM {self._matching} ORDER BY rowid {order} LIMIT %s"  # noqa: S608
        return [key for (key,) in _rows(sql, [self._text(expression), above, below, limit])]

    def count(self, expression: Expression, above: int, below: int, limit: int, patience: float) -> int:
        sql = f"SELECT count(*) FROM (SELECT rowid FROM {self._matching} LIMIT %s)"  # noqa: S608
        return int(_rows(sql, [self._text(expression), above, below, limit])[0][0])

    def everything(self, above: int, below: int) -> tuple[str, list[Any]]:
        """A contentless table can only be asked for what matches."""
        return f"SELECT rowid FROM {self._matching}", [self._text(_ANY), above, below]  # noqa: S608

    def stored(self, key: int, found: list[str]) -> str:
        return " ".join(found)

    _matching = f"{TABLE} WHERE {TABLE} MATCH %s AND rowid > %s AND rowid < %s"

    def _text(self, expression: Expression) -> str:
        return " AND ".join(
            "(" + " OR ".join("(" + " AND ".join(map(self._term, every)) + ")" for every in alternatives) + ")"
            for alternatives in expression
        )

    def _term(self, token: str) -> str:
        # Tokens are letters, digits and the characters of a named one; a quotation mark is never among them.
        return f'"{token[:-1]}" *' if token.endswith("*") else f'"{token}"'


class _PostgreSQL:
    """GIN knows which rows match but not in what order; the primary key knows the order but not which match.

    So each row also has tokens for the blocks of neighbouring keys that it belongs to, small ones inside large ones. A
    page first walks a little way down the key, which is enough for what is common. Then it asks block after block, and
    larger ones as it goes: the index intersects the block with the search, and only what matches is fetched. A block
    that holds too much to be sorted is taken apart.
    """

    _WALK = 700
    _MOST = 2_000
    # Keys in a block, as powers of two: 65,536 to 16,777,216.
    _SMALLEST, _STEP, _LARGEST = 16, 2, 24

    def keys(self, expression: Expression, above: int, below: int, limit: int, order: str) -> list[int]:
        found, edge = self._walk(self._text(expression), above, below, limit, order)
        if edge is None:
            return found
        above, below = self._there(above, edge) if order == "DESC" else self._there(edge, below)
        with self._by_index():
            for block in self._blocks(above, below, order):
                found += self._in_block(expression, block, above, below, limit - len(found), order)
                if len(found) == limit:
                    break
        return found

    def count(self, expression: Expression, above: int, below: int, limit: int, patience: float) -> int:
        if patience != FOR_EVER and ":*" in self._text(expression):
            raise TookTooLong(0)  # PostgreSQL gathers all that begins so first, and cannot be stopped at that
        deadline, counted = time.monotonic() + patience, 0
        above, below = self._there(above, below)
        try:
            with self._by_index(patience):
                for block in self._blocks(above, below, "DESC"):
                    counted += self._count_in_block(expression, block, above, below, limit - counted)
                    if counted == limit:
                        break
                    if time.monotonic() > deadline:
                        raise TookTooLong(counted)
        except OperationalError as error:
            if isinstance(error.__cause__, QueryCanceled):
                raise TookTooLong(counted) from error
            raise
        return counted

    def stored(self, key: int, found: list[str]) -> list[str]:
        sizes = range(self._SMALLEST, self._LARGEST + 1, self._STEP)
        return [*found, *(_Block(size, key >> size).token for size in sizes)]

    def _walk(self, query: str, above: int, below: int, limit: int, order: str) -> tuple[list[int], int | None]:
        """What the nearest rows hold, and the last key looked at; None when there is no need to go on."""
        near = f"SELECT event_pk, tokens FROM {TABLE} WHERE {_BETWEEN} ORDER BY event_pk {order} LIMIT %s"  # noqa: S608
        sql = f"""WITH near AS MATERIALIZED ({near})
            SELECT event_pk, tokens @@ %s::tsquery FROM near ORDER BY event_pk {order}"""  # noqa: S608
        # What begins so is gathered anew for each block: there it is worth going further by foot.
        steps = self._WALK * (10 if ":*" in query else 1)
        looked_at = _rows(sql, [above, below, steps, query])
        found = [key for key, matches in looked_at if matches][:limit]
        is_enough = len(found) == limit or len(looked_at) < steps
        return found, None if is_enough else looked_at[-1][0]

    def _blocks(self, above: int, below: int, order: str) -> Iterator[_Block]:
        """Blocks that together cover the keys between two, nearest first, each as large as its place allows."""
        size = self._SMALLEST
        while below > above + 1:
            block = _Block(size, (below - 1 if order == "DESC" else above + 1) >> size)
            yield block
            if order == "DESC":
                below = block.first
            else:
                above = block.last
            # At the border of a larger block the next one may be that large.
            is_border = (block.number if order == "DESC" else block.number + 1) % 2**self._STEP == 0
            if is_border and size < self._LARGEST:
                size += self._STEP

    def _in_block(
        self, expression: Expression, block: _Block, above: int, below: int, limit: int, order: str
    ) -> list[int]:
        above, below = max(above, block.first - 1), min(below, block.last + 1)
        matching, arguments = self._matching(expression, block)
        sql = f"SELECT event_pk FROM {TABLE} WHERE {matching} AND {_BETWEEN} LIMIT %s"  # noqa: S608
        found = [key for (key,) in _rows(sql, [*arguments, above, below, self._MOST])]
        if len(found) < self._MOST:
            return sorted(found, reverse=order == "DESC")[:limit]
        if block.size == self._SMALLEST:
            return self._walk_on(self._text(expression), above, below, limit, order)
        found = []
        for part in block.parts(self._STEP, order):
            found += self._in_block(expression, part, above, below, limit - len(found), order)
            if len(found) == limit:
                break
        return found

    def _walk_on(self, query: str, above: int, below: int, limit: int, order: str) -> list[int]:
        """Through a block that holds much: the end of the walk is near."""
        found, edge = self._walk(query, above, below, limit, order)
        while edge is not None:
            above, below = (above, edge) if order == "DESC" else (edge, below)
            more, edge = self._walk(query, above, below, limit - len(found), order)
            found += more
        return found

    def _matching(self, expression: Expression, block: _Block) -> tuple[str, list[str]]:
        """A condition for each thing that must be: between conditions GIN can leap, within one it looks at each row."""
        clauses = [block.query]
        for alternatives in expression:
            if len(alternatives) == 1:
                clauses += map(self._term, alternatives[0])
            else:
                clauses.append(self._text([alternatives]))
        return " AND ".join(["tokens @@ %s::tsquery"] * len(clauses)), clauses

    def _count_in_block(self, expression: Expression, block: _Block, above: int, below: int, limit: int) -> int:
        # Without a condition on the key the index alone can count, where all rows are visible to all.
        matching, arguments = self._matching(expression, block)
        bounds, keys = ("", []) if block.is_within(above, below) else (f"AND {_BETWEEN}", [above, below])
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {TABLE} WHERE {matching} {bounds} LIMIT %s) counted"  # noqa: S608
        return int(_rows(sql, [*arguments, *keys, limit])[0][0])

    def _there(self, above: int, below: int) -> tuple[int, int]:
        """The two keys brought as near to each other as there are rows between them."""
        sql = f"SELECT coalesce(min(event_pk), 0), coalesce(max(event_pk), 0) FROM {TABLE}"  # noqa: S608
        oldest, newest = _rows(sql, [])[0]
        return max(above, oldest - 1), min(below, newest + 1)

    @contextmanager
    def _by_index(self, patience: float = FOR_EVER) -> Iterator[None]:
        """The planner cannot know that a block's rows lie together, and would rather read the table."""
        planning = "SET LOCAL enable_seqscan = off; SET LOCAL work_mem = '64MB'; SET LOCAL jit = off"
        if patience != FOR_EVER:
            planning += f"; SET LOCAL statement_timeout = {int(patience * 1000)}"
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(planning)
            yield

    def everything(self, above: int, below: int) -> tuple[str, list[Any]]:
        return f"SELECT event_pk FROM {TABLE} WHERE {_BETWEEN}", [above, below]  # noqa: S608

    def _text(self, expression: Expression) -> str:
        return " & ".join(
            "(" + " | ".join("(" + " & ".join(map(self._term, every)) + ")" for every in alternatives) + ")"
            for alternatives in expression
        )

    def _term(self, token: str) -> str:
        return f"'{token[:-1]}':*" if token.endswith("*") else f"'{token}'"


_DIALECTS: Mapping[str, _SQLite | _PostgreSQL] = {"sqlite": _SQLite(), "postgresql": _PostgreSQL()}


def _rows(sql: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments)
        return list(cursor.fetchall())


def stored(key: int, found: list[str]) -> str | list[str]:
    """The tokens of the event with this key, as the table holds them."""
    return _DIALECTS[connection.vendor].stored(key, found)


def _texts_in(value: Any) -> Iterator[str]:
    """Every text and number in facts, keys included."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield key
            yield from _texts_in(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts_in(entry)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
