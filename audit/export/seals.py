"""Which seals cover the rows of a file, as its manifest tells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection


@dataclass(frozen=True, slots=True, kw_only=True)
class SealRange:
    """The lowest and the highest seal over some rows, and how many rows no seal covered when they were written.

    An event that was committed late has a low key and a high seal, so every row counts, not the first and the last.
    """

    first_seal: int | None = None
    last_seal: int | None = None
    unsealed: int = 0

    def with_rows_of(self, other: "SealRange") -> "SealRange":
        ends = (self.first_seal, other.first_seal, self.last_seal, other.last_seal)
        numbers = [n for n in ends if n is not None]
        return SealRange(
            first_seal=min(numbers, default=None),
            last_seal=max(numbers, default=None),
            unsealed=self.unsealed + other.unsealed,
        )


def over_span(above: int, below: int, rows: int) -> SealRange | None:
    """The same for all ``rows`` events between two keys, from the leaves alone: as many, or none. Else None.

    To look each row up would be a third of an export's cost.
    """
    sql = "SELECT min(seal_n), max(seal_n), count(*) FROM audit_auditleaf WHERE event_pk > %s AND event_pk < %s"
    with connection.cursor() as cursor:
        cursor.execute(sql, [above, below])
        first, last, leaves = cursor.fetchone()
    return SealRange(first_seal=first, last_seal=last, unsealed=rows - leaves) if leaves in {0, rows} else None


def over(condition: str, arguments: Sequence[Any]) -> SealRange:
    """The seals over the events that an SQL condition chooses by ``id`` and ``at``."""
    sql = f"""SELECT min(seal_n), max(seal_n), count(*) - count(event_pk)
        FROM audit_auditevent LEFT JOIN audit_auditleaf ON event_pk = id WHERE {condition}"""  # noqa: S608 - our own
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments)
        first, last, unsealed = cursor.fetchone()
    return SealRange(first_seal=first, last_seal=last, unsealed=unsealed)
