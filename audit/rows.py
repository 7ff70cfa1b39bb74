"""Stored events against themselves: each text against its hash, and every column against the text.

Whoever looks at all of the trail cannot afford a model instance for each row, nor to parse each text. The database
hands out the columns as the recorder wrote them into the text, and a text is right if it begins and ends as they say:
its keys are sorted, so that ``facts`` stands between a head and a tail of columns, and a quotation mark inside of a
value is always escaped, so that no fact can pose as the tail. Only what fails that look is parsed.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC
from json.encoder import encode_basestring
from typing import Any

from django.db import connection

from audit import proof
from audit.models import AuditEvent

Row = Sequence[Any]
PLAIN = (
    *("retention_class", "who_kind", "who_id", "who_label", "on_behalf_of", "what", "target_type", "target_id"),
    *("target_label", "outcome", "why", "ip"),
)
PK, CANON, NONCE, ROW_HASH, DIGEST, AT, EVENT_ID = range(7)
_TEXTS = ("on_behalf_of", "outcome", "retention_class", "target_id", "target_label", "target_type", "what")
_AT = {
    "sqlite": "replace(e.at, ' ', 'T') || CASE length(e.at) WHEN 19 THEN '.000000' ELSE '' END || '+00:00'",
    "postgresql": """to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || '+00:00'""",
}
_UUID = {"sqlite": "e.{0}", "postgresql": "e.{0}::text"}
_IP = {"sqlite": "e.ip", "postgresql": "host(e.ip)"}


def columns() -> str:
    """The columns of table ``e`` that ``problem`` reads, as SQL."""
    vendor = connection.vendor
    ids = [_UUID[vendor].format(name) for name in ("event_id", "request_id", "parent_event_id")]
    whole = [f"e.{name}" for name in ("id", "canon", "nonce", "row_hash", "payload_digest")]
    texts = [f"e.{name}" for name in (*_TEXTS, "who_id", "who_kind", "who_label", "why")]
    return ", ".join([*whole, _AT[vendor], *ids, _IP[vendor], *texts])


WIDTH = 21  # how many columns these are


def of_seals(first: int, last: int) -> Iterator[Row]:
    """(seal, position, key, hash) of each leaf with the row of its event; empty columns where it is gone."""
    sql = f"""SELECT l.seal_n, l.position, l.event_pk, l.row_hash, {columns()}
        FROM audit_auditleaf l LEFT JOIN audit_auditevent e ON e.id = l.event_pk
        WHERE l.seal_n BETWEEN %s AND %s ORDER BY l.seal_n, l.position"""  # noqa: S608 - our own names
    return _fetched(sql, [first, last])


def of_keys(pks: Sequence[int]) -> Iterator[Row]:
    """The rows of these events."""
    if not pks:
        return iter(())  # an empty list is no SQL everywhere
    marks = ", ".join(["%s"] * len(pks))
    return _fetched(f"SELECT {columns()} FROM audit_auditevent e WHERE e.id IN ({marks})", pks)  # noqa: S608


def of_waiting(above: int, limit: int) -> Iterator[Row]:
    """Events that no seal covers yet, in the order of their keys; behind the row its MAC and version."""
    sql = f"""SELECT {columns()}, e.row_mac, e.schema_v FROM audit_auditevent e
        WHERE e.id > %s AND NOT EXISTS (SELECT 1 FROM audit_auditleaf l WHERE l.event_pk = e.id)
        ORDER BY e.id LIMIT %s"""  # noqa: S608 - our own names
    return _fetched(sql, [above, limit])


def _fetched(sql: str, arguments: Sequence[int]) -> Iterator[Row]:
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments)
        return iter(cursor.fetchall())


def problem(row: Row) -> str:
    """What is wrong with a row, or nothing."""
    pk, canon, nonce, row_hash, digest, at, event_id, request_id, parent, ip, *texts = row[:WIDTH]
    if proof.row_hash(canon, bytes(nonce)) != bytes(row_hash):
        return "its text was changed"
    behalf, outcome, kept, target_id, label, kind, what, who_id, who_kind, who, why = map(encode_basestring, texts)
    head = f'{{"at":"{at}","event_id":"{event_id}","facts":{{'
    tail = (
        f'}},"ip":{_quoted(ip)},"on_behalf_of":{behalf},"outcome":{outcome},"parent_event_id":{_quoted(parent)},'
        f'"payload":{_quoted(None if digest is None else bytes(digest).hex())},"request_id":"{request_id}",'
        f'"retention_class":{kept},"target_id":{target_id},"target_label":{label},"target_type":{kind},'
        f'"what":{what},"who_id":{who_id},"who_kind":{who_kind},"who_label":{who},"why":{why}}}'
    )
    return "" if canon.startswith(head) and canon.endswith(tail) else _differences(pk)


def _quoted(text: str | None) -> str:
    return "null" if text is None else f'"{text}"'


def _differences(pk: int) -> str:
    """Which columns say something else than the text, column by column."""
    try:
        event = AuditEvent.objects.filter(pk=pk).first()
    except ValueError:
        return "was changed: a column holds what cannot be read"
    if event is None:
        return ""  # purged a moment ago
    try:
        told: dict[str, Any] = json.loads(event.canon)
        del told["facts"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return "was not written by the recorder: its text cannot be read"
    digest = event.payload_digest
    shown: dict[str, Any] = {name: getattr(event, name) for name in PLAIN}
    shown["payload"] = None if digest is None else bytes(digest).hex()
    shown["at"] = event.at and event.at.astimezone(UTC).isoformat(timespec="microseconds")
    for name in ("event_id", "request_id", "parent_event_id"):
        shown[name] = None if getattr(event, name) is None else str(getattr(event, name))
    names = ["payload_digest" if name == "payload" else name for name in told if shown.get(name) != told[name]]
    return f"was changed in {', '.join(names)}" if names else ""
