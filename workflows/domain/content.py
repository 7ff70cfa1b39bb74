"""What is said, before any channel gives it a shape."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A message in the Markdown subset that WeCom shows: headings, bold, links, quotes, inline code.

    ``blocks`` are units that should stay together (one digest item, one paragraph); a channel splits
    between blocks first, and inside one only where a block alone is over its limit.
    """

    title: str
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One transmission: the exact payload that an officer sees and a channel sends.

    ``number`` counts from 1 to ``of``.
    """

    number: int
    of: int
    text: str
