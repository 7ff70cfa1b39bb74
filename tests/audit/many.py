"""A trail of many events, made fast: for measuring, and for tests of what comes in pieces.

``fill(n)`` goes round the recorder, but what it writes is whole: canonical texts, hashes, MACs, leaves, signed and
chained seals, checkpoints and search tokens are those that the product itself would have written, so the trail
verifies, exports and is found as usual. The same ``n`` on an empty trail gives the same texts, but for times and ids.
"""

import hmac
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone

from audit import canonical, checkpoints, keys, proof, purged, sealing, search_index, triggers, vocabulary
from audit.models import AuditEvent, AuditLeaf, AuditSeal

# One event in a thousand says one of these.
RARE = ("whistleblower", "举报人")
_SHAPES = 20_000
_BATCH = 20 * sealing.BATCH
# From here on it pays to take indexes down and build them anew.
_LARGE = 50_000
_DAYS = timedelta(days=30)

_NAMES = ("alice", "boris", "chen.wei", "李娜", "王芳", "olivia")
_PEOPLE = [f"{name}{number or ''}" for number in range(5) for name in _NAMES]
_OBJECTS = ("workflows.message", "workflows.run", "workflows.workflow", "workflows.audience", "auth.user", "")
_WHYS = (
    "Weekly digest for the compliance group, reviewed and complete",
    "Sent again after the channel had refused it: rate limit",
    "Access needed for the quarterly inspection, ticket {n}",
    "The recipient list was wrong; corrected by hand",
    "=SUM(A{n}) as pasted from the sheet",
    "",
    "群发给合规群，内容已经复核",
    "季度检查需要导出，工单{n}",
    "渠道限流，稍后重新发送第{n}次",
    "收件人名单有误，已手工更正",
    "例行巡检：未发现异常，编号{n}",
    "根据个人信息保护法的要求处理",
)
_FACTS: tuple[dict[str, Any], ...] = (
    {},
    {"recipients": 120, "channel": "企业微信机器人"},
    {"before": {"state": "draft"}, "after": {"state": "released"}},
    {"note": "会议纪要已同步", "attempt": 2, "parts": [1, 2, 3]},
    {"path": "/workflows/message/17/change/"},
)


@dataclass(frozen=True, slots=True)
class _Shape:
    """An event without its times and ids: the columns, the pieces of its canonical text, its tokens."""

    columns: tuple[Any, ...]
    head: str
    middle: str
    tail: str
    tokens: list[str]


# In the order in which both writers put them.
_EVENT_COLUMNS = (
    *("id", "event_id", "at", "request_id", "parent_event_id", "nonce", "canon", "row_hash", "row_mac"),
    *("retention_class", "who_kind", "who_id", "who_label", "on_behalf_of", "what", "target_type", "target_id"),
    *("target_label", "outcome", "why", "ip", "payload_digest", "schema_v"),
)
_LEAF_COLUMNS = ("event_pk", "seal_n", "position", "row_hash")


def fill(n: int, *, begins: datetime | None = None, ends: datetime | None = None) -> None:
    """Append ``n`` sealed and indexed events, spread evenly between two times: from the newest event, until now."""
    choice = random.Random(n)  # noqa: S311 - no secrets are made of it
    # By these verification judges what is gone: nothing is.
    names = [what for what, _label in vocabulary.labels() if what not in purged.KEPT]
    shapes = [_shape(choice, choice.choice(names), number) for number in range(min(n, _SHAPES))]
    last = AuditEvent.objects.aggregate(pk=Max("pk"), at=Max("at"))
    ends = ends or timezone.now()
    begins = begins or max(last["at"] or ends - _DAYS, ends - _DAYS)
    events = _events(choice, shapes, begins, (ends - begins) / (n + 1), (last["pk"] or 0) + 1)
    with _without_indexes(n):
        for _ in range(0, n, _BATCH):
            rows = list(islice(events, min(_BATCH, n)))
            n -= len(rows)
            with transaction.atomic():
                _write(rows)
            for seal in AuditSeal.objects.order_by("-n")[: len(rows) // sealing.BATCH + 1][::-1]:
                checkpoints.append(seal)


@dataclass(frozen=True, slots=True)
class _Row:
    pk: int
    values: tuple[Any, ...]
    row_hash: bytes
    tokens: list[str]


def _shape(choice: random.Random, what: str, number: int) -> _Shape:
    kind = choice.choices(["user", "system", "anonymous"], [60, 35, 5])[0]
    place = choice.randrange(len(_PEOPLE))
    target = choice.choice(_OBJECTS)
    why = choice.choice(_WHYS).format(n=number % 977)
    told = {
        "retention_class": vocabulary.retention_class(what),
        "who_kind": kind,
        "who_id": str(place + 1) if kind == "user" else "",
        "who_label": {"user": _PEOPLE[place], "system": "system", "anonymous": ""}[kind],
        "on_behalf_of": _PEOPLE[place] if kind == "system" and number % 2 else "",
        "what": what,
        "target_type": target,
        "target_id": str(number) if target else "",
        "target_label": choice.choice([f"周报第{number}期", f"Digest {number}"]) if target else "",
        "outcome": choice.choices(["success", "failure", "refused"], [94, 4, 2])[0],
        "why": f"{why} {RARE[number // 1000 % 2]}".strip() if number % 1000 == 999 else why,
        "ip": f"203.0.113.{number % 254 + 1}" if kind != "system" else None,
    }
    facts = _FACTS[number % len(_FACTS)]
    marks = {name: f"<{name}>" for name in ("at", "event_id", "parent_event_id", "request_id")}
    text = canonical.canonical_json({**told, **marks, "payload": None, "facts": facts})
    # Sorted, these three stand apart: at and event_id first, parent_event_id and request_id in the middle.
    head, rest = text.split('{"at":"<at>","event_id":"<event_id>"')[1].split('"<parent_event_id>"')
    middle, tail = rest.split("<request_id>")
    tokens = search_index.tokens_of(AuditEvent(**told, canon=text))
    return _Shape((*told.values(), None, proof.ROW_VERSION), head, middle, tail, tokens)


def _events(
    choice: random.Random, shapes: Sequence[_Shape], begins: datetime, step: timedelta, first: int
) -> Iterator[_Row]:
    key = settings.AUDIT_KEY.encode()
    at, pk, left = begins, first, 0
    request = parent = ""
    while True:
        at += step
        moment = at.astimezone(UTC)
        event_id = _uuid7(moment)
        if left == 0:
            request, parent, left = _uuid7(moment), "", choice.randint(1, 6)
        left -= 1
        shape = choice.choice(shapes)
        told_at, told_parent = moment.isoformat(timespec="microseconds"), f'"{parent}"' if parent else "null"
        canon = (
            f'{{"at":"{told_at}","event_id":"{event_id}"{shape.head}{told_parent}{shape.middle}{request}{shape.tail}'
        )
        nonce = os.urandom(16)
        row_hash = sha256(b"audit.v%d\n" % proof.ROW_VERSION + nonce + canon.encode()).digest()
        mac = hmac.digest(key, row_hash, "sha256")
        ids = (pk, event_id, told_at, request, parent or None)
        yield _Row(pk, (*ids, nonce, canon, row_hash, mac, *shape.columns), row_hash, shape.tokens)
        parent = event_id
        pk += 1


def _uuid7(at: datetime) -> str:
    text = f"{int(at.timestamp() * 1000):012x}7{os.urandom(10).hex()}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-8{text[17:20]}-{text[20:32]}"


def _write(rows: Sequence[_Row]) -> None:
    leaves = list(_sealed(rows))
    if connection.vendor == "postgresql":
        _copy(AuditEvent._meta.db_table, _EVENT_COLUMNS, (row.values for row in rows))
        _copy(AuditLeaf._meta.db_table, _LEAF_COLUMNS, leaves)
        stored = ((row.pk, search_index.stored(row.pk, row.tokens)) for row in rows)
        vectors = ((pk, " ".join(f"'{token}'" for token in tokens)) for pk, tokens in stored)
        _copy(search_index.TABLE, ("event_pk", "tokens"), vectors)
        with connection.cursor() as cursor:
            sequence = f"pg_get_serial_sequence('{AuditEvent._meta.db_table}', 'id')"
            cursor.execute(f"SELECT setval({sequence}, %s)", [rows[-1].pk])
    else:
        _insert(AuditEvent._meta.db_table, _EVENT_COLUMNS, (_as_sqlite_keeps_it(row.values) for row in rows))
        _insert(AuditLeaf._meta.db_table, _LEAF_COLUMNS, leaves)
        _insert(search_index.TABLE, ("rowid", "tokens"), ((row.pk, " ".join(row.tokens)) for row in rows))


def _sealed(rows: Sequence[_Row]) -> Iterator[tuple[int, int, int, bytes]]:
    """Makes the seals, and gives the leaves."""
    key = keys.signing_key()
    last = AuditSeal.objects.order_by("-n").first()
    n, previous = (last.n, bytes(last.seal_hash)) if last else (0, sealing.NO_HASH)
    seals = []
    for start in range(0, len(rows), sealing.BATCH):
        batch = rows[start : start + sealing.BATCH]
        n += 1
        seal = AuditSeal(
            n=n,
            sealed_at=datetime.fromisoformat(batch[-1].values[2]),
            size=len(batch),
            root=proof.root([row.row_hash for row in batch]),
            previous_hash=previous,
            key_id=keys.key_id(key.public_key()),
            schema_v=sealing.SCHEMA_VERSION,
        )
        said = sealing.statement(seal)
        seal.seal_hash = previous = proof.leaf_hash(said)
        seal.signature = key.sign(said)
        seals.append(seal)
        yield from ((row.pk, n, position, row.row_hash) for position, row in enumerate(batch))
    AuditSeal.objects.bulk_create(seals)


def _as_sqlite_keeps_it(values: tuple[Any, ...]) -> tuple[Any, ...]:
    pk, event_id, at, *rest = values
    return (pk, event_id, at[:-6].replace("T", " "), *rest)


def _insert(table: str, columns: Sequence[str], rows: Iterator[tuple[Any, ...]] | list[tuple[Any, ...]]) -> None:
    marks = ", ".join(["%s"] * len(columns))
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", list(rows))  # noqa: S608


def _copy(table: str, columns: Sequence[str], rows: Iterator[tuple[Any, ...]] | list[tuple[Any, ...]]) -> None:
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write("".join("\t".join(map(_cell, row)) + "\n" for row in rows))


def _cell(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bytes):
        return f"\\\\x{value.hex()}"
    text = str(value)
    return text.replace("\\", "\\\\") if "\\" in text else text


@contextmanager
def _without_indexes(n: int) -> Iterator[None]:
    """Indexes of a large trail are built in one go, afterwards."""
    if n < _LARGE:
        yield
        return
    definitions = _indexes()
    with connection.cursor() as cursor:
        for name in definitions:
            cursor.execute(f"DROP INDEX {name}")
        triggers.GUARDS.remove(connection)
        yield
        triggers.GUARDS.install(connection)
        if connection.vendor == "postgresql":
            cursor.execute("SET maintenance_work_mem = '512MB'")
        for definition in definitions.values():
            cursor.execute(definition)
        cursor.execute("ANALYZE")


def _indexes() -> dict[str, str]:
    """By name, how each index is made that no constraint needs."""
    tables = ", ".join(f"'{table}'" for table in (AuditEvent._meta.db_table, search_index.TABLE))
    query = {
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql NOTNULL AND tbl_name",
        "postgresql": """SELECT indexname, indexdef FROM pg_indexes
            WHERE NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conname = indexname) AND tablename""",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(f"{query} IN ({tables})")
        return dict(cursor.fetchall())
