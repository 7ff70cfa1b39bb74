"""An export's columns, as each database writes them: the very cells that ``audit.proof.cells`` reads from the text.

On millions of rows, whatever Python does for each of them is most of the cost; so cells are finished in the database.
"""

from collections.abc import Collection, Iterable

from django.db import connection

from audit import proof

FIXED = proof.COLUMNS[:5]
ID = "event_id"
CHOOSABLE = tuple(name for name in proof.COLUMNS if name not in {*FIXED, ID})
# Only this one is not in the row itself: a part of it is encrypted.
DETAILS = "details"
DEFAULT = tuple(name for name in proof.COLUMNS if name != DETAILS)

# Code points that begin what a spreadsheet takes for a formula (``proof.neutral``); no database holds NUL.
_FORMULA = (61, 43, 45, 64, 9, 13, 10, 39)
# What people, machines and foreign systems may have a say in. The others are names in our code, numbers and times.
FREE = frozenset({"who", "why", "on_behalf_of", "object_id", "object"})

_SAME = {
    "who": "CASE who_label WHEN '' THEN who_kind ELSE who_label END",
    "what": "what",
    "why": "why",
    "outcome": "outcome",
    "on_behalf_of": "on_behalf_of",
    "object_type": "target_type",
    "object_id": "target_id",
    "object": "target_label",
}


_SQL = {
    "postgresql": _SAME
    | {
        # The connection's time zone is UTC.
        "when": """to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')""",
        "address": "coalesce(host(ip), '')",
        "request_id": "request_id::text",
        "event_id": "event_id::text",
    },
    "sqlite": _SAME
    | {
        # Whole seconds are stored without a fraction.
        "when": "replace(at, ' ', 'T') || CASE length(at) WHEN 19 THEN '.000000' ELSE '' END || '+00:00'",
        "address": "coalesce(ip, '')",
        "request_id": "request_id",
        "event_id": "event_id",
    },
}


def chosen(names: Collection[str]) -> tuple[str, ...]:
    """The columns of a file for which somebody chose these: the five answers first, and what identifies a row."""
    wanted = {*FIXED, ID, *names}
    return tuple(name for name in proof.COLUMNS if name in wanted)


def plain(names: Iterable[str]) -> list[str]:
    """SQL for the cells as they are, each named like its column."""
    return [f'{_SQL[connection.vendor][name]} AS "{name}"' for name in names]


def neutral(names: Iterable[str]) -> list[str]:
    """The same as ``proof.neutral`` makes them."""
    return [_neutral(name) for name in names]


def _neutral(name: str) -> str:
    text = _SQL[connection.vendor][name]
    if name not in FREE:
        return text
    points = ", ".join(map(str, _FORMULA))
    is_formula = {
        "postgresql": f"ascii({text}) = ANY ('{{{points}}}'::int[])",
        "sqlite": f"unicode({text}) IN ({points})",
    }[connection.vendor]
    return f"CASE WHEN {is_formula} THEN '''' || {text} ELSE {text} END"
