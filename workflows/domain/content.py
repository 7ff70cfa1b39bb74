"""What is said, before any channel gives it a shape."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that a message points to, in plain text. ``url`` is http(s) or ""."""

    title: str
    url: str = ""
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A file that goes with a message: its name, type and bytes by their digest."""

    name: str
    media_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A message in the Markdown subset that WeCom shows: headings, bold, links, quotes, inline code.

    ``blocks`` are units that should stay together (one digest item, one paragraph); a channel splits
    between blocks first, and inside one only where a block alone is over its limit. ``entries`` are the same items
    for channels that show cards or articles, ``digest`` the digest as its contract has it, where it is one.
    """

    title: str
    blocks: tuple[str, ...]
    entries: tuple[Entry, ...] = ()
    attachments: tuple[Attached, ...] = ()
    digest: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One transmission: the exact payload that an officer sees and a channel sends.

    ``number`` counts from 1 to ``of``. ``form`` says how ``text`` is to be read: "markdown", "text", "mail" (a subject
    line, an empty line, Markdown), or "json" (a payload that is sent as it stands). ``attachments`` go with it.
    """

    number: int
    of: int
    text: str
    form: str = "markdown"
    attachments: tuple[Attached, ...] = ()
