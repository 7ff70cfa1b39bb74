"""What sources yield."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceItem:
    """One entry as its source published it: nothing cleaned, nothing guessed.

    ``external_id`` is the source's own stable key (GUID, atom:id) or "". ``title`` and ``summary``
    may hold HTML. ``published_at`` is an aware UTC instant, or None where the source names none.
    """

    external_id: str
    url: str
    title: str
    summary: str = ""
    author: str = ""
    published_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The result of asking a source once.

    ``state`` is opaque to everybody but the adapter (validators of a conditional GET, a checkpoint); it is
    stored and handed back at the next fetch. ``notes`` are plain sentences about what was odd and how it
    was read, kept with the run for a person to see.
    """

    items: tuple[SourceItem, ...]
    state: dict[str, str] = field(default_factory=dict)
    unchanged: bool = False
    notes: tuple[str, ...] = ()
