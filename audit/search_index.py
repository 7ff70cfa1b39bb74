"""The inverted index over the trail: which tokens an event has. Derived from the events, and can be built anew.

SQLite: a contentless FTS5 table; PostgreSQL: a table of tsvectors under a GIN index. Both hold exactly the tokens that
``audit.tokens`` makes, so both find the same. Filters are tokens too (``what=approval.granted``): any combination is
one walk through the index, newest first.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

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
    return [*named, *(f"why~{token}" for token in why), *words]


def add(events: Iterable[AuditEvent]) -> None:
    """Index new events, in the transaction that records them."""
    value = "%s" if connection.vendor == "sqlite" else "array_to_tsvector(%s)"
    key = "rowid" if connection.vendor == "sqlite" else "event_pk"
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {TABLE} ({key}, tokens) VALUES (%s, {value})",  # noqa: S608 - our own names
            [(event.pk, _stored(tokens_of(event))) for event in events],
        )


def remove(events: Iterable[AuditEvent]) -> None:
    """Take events out that are about to be purged. A contentless table has to be told what it held."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.executemany(
                f"INSERT INTO {TABLE} ({TABLE}, rowid, tokens) VALUES ('delete', %s, %s)",  # noqa: S608
                [(event.pk, _stored(tokens_of(event))) for event in events],
            )
        else:
            pks = [event.pk for event in events]
            cursor.execute(f"DELETE FROM {TABLE} WHERE event_pk = ANY(%s)", [pks])  # noqa: S608


def clear() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"INSERT INTO {TABLE} ({TABLE}) VALUES ('delete-all')")  # noqa: S608
        else:
            cursor.execute(f"TRUNCATE {TABLE}")


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


def count(expression: Expression, *, above: int, below: int, limit: int) -> int:
    """How many match, counted no further than ``limit``."""
    return _DIALECTS[connection.vendor].count(expression, above, below, limit)


def missing(*, above: int, below: int, limit: int) -> list[int]:
    """Keys of events between two keys that are not in the index: no search would find them."""
    indexed, arguments = _DIALECTS[connection.vendor].everything(above, below)
    sql = f"""SELECT id FROM audit_auditevent WHERE id > %s AND id < %s
        EXCEPT {indexed} ORDER BY 1 LIMIT %s"""  # noqa: S608 - our own names
    return [key for (key,) in _rows(sql, [above, below, *arguments, limit])]


# Every event has an outcome: what the index holds at all.
_ANY: Expression = [[[tokens.named("outcome", outcome)] for outcome in AuditEvent.Outcome.values]]


class _SQLite:
    """FTS5 walks its posting lists in the order of the keys, either way, so every limit is reached early."""

    def keys(self, expression: Expression, above: int, below: int, limit: int, order: str) -> list[int]:
        sql = f"SELECT rowid FROM {self._matching} ORDER BY rowid {order} LIMIT %s"  # noqa: S608
        return [key for (key,) in _rows(sql, [self._text(expression), above, below, limit])]

    def count(self, expression: Expression, above: int, below: int, limit: int) -> int:
        sql = f"SELECT count(*) FROM (SELECT rowid FROM {self._matching} LIMIT %s)"  # noqa: S608
        return int(_rows(sql, [self._text(expression), above, below, limit])[0][0])

    def everything(self, above: int, below: int) -> tuple[str, list[Any]]:
        """A contentless table can only be asked for what matches."""
        return f"SELECT rowid FROM {self._matching}", [self._text(_ANY), above, below]  # noqa: S608

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

    So first a bounded walk down the key, which is enough for what is common. What it does not fill is rare, and is
    fetched through the index as a whole; unless a probe shows that it is many rows after all, which are only not
    recent: then down the key to the end.
    """

    _WALK = 5_000
    _RARE = 5_000

    def keys(self, expression: Expression, above: int, below: int, limit: int, order: str) -> list[int]:
        query = self._text(expression)
        found, edge = self._walk(query, above, below, limit, order)
        if len(found) == limit or edge is None:
            return found
        above, below = (above, edge) if order == "DESC" else (edge, below)
        return found + self._rest(query, above, below, limit - len(found), order)

    def _walk(self, query: str, above: int, below: int, limit: int, order: str) -> tuple[list[int], int | None]:
        """What the nearest rows hold, and the last key looked at; None when there are no more rows."""
        near = f"SELECT event_pk, tokens FROM {self._between} ORDER BY event_pk {order} LIMIT %s"  # noqa: S608
        sql = f"""WITH near AS MATERIALIZED ({near})
            SELECT event_pk, tokens @@ %s::tsquery FROM near ORDER BY event_pk {order}"""  # noqa: S608
        looked_at = _rows(sql, [above, below, self._WALK, query])
        found = [key for key, matches in looked_at if matches][:limit]
        return found, looked_at[-1][0] if len(looked_at) == self._WALK else None

    def _rest(self, query: str, above: int, below: int, limit: int, order: str) -> list[int]:
        matching = f"SELECT event_pk FROM {self._between} AND tokens @@ %s::tsquery"  # noqa: S608
        arguments: list[Any] = [above, below, query]
        if self._probe(query, above, below, self._RARE + 1) > self._RARE:
            return [key for (key,) in _rows(f"{matching} ORDER BY event_pk {order} LIMIT %s", [*arguments, limit])]
        rare = f"WITH rare AS MATERIALIZED ({matching}) SELECT * FROM rare"  # noqa: S608
        return [key for (key,) in _rows(f"{rare} ORDER BY 1 {order} LIMIT %s", [*arguments, limit])]

    def count(self, expression: Expression, above: int, below: int, limit: int) -> int:
        return self._probe(self._text(expression), above, below, limit)

    def _probe(self, query: str, above: int, below: int, limit: int) -> int:
        sql = f"""SELECT count(*) FROM (
            SELECT 1 FROM {self._between} AND tokens @@ %s::tsquery LIMIT %s) probe"""  # noqa: S608
        return int(_rows(sql, [above, below, query, limit])[0][0])

    def everything(self, above: int, below: int) -> tuple[str, list[Any]]:
        return f"SELECT event_pk FROM {self._between}", [above, below]  # noqa: S608

    _between = f"{TABLE} WHERE event_pk > %s AND event_pk < %s"

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


def _stored(found: list[str]) -> str | list[str]:
    return " ".join(found) if connection.vendor == "sqlite" else found


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
