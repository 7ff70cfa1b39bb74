"""Text on its way to a channel: measured in UTF-8 bytes, made inert, cut where a reader would cut it."""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

SMALLEST_LIMIT = 64
"""Bytes. Below this a text has no room for a title, a part mark and a word."""

_SEPARATOR = "\n\n"

# Pictographs and what follows them; a zero-width joiner means something only between two of these.
_EMOJI = "\u2190-\u21ff\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\ufe0f\U0001f000-\U0001faff"

# Nothing here has a shape of its own: controls, direction overrides, zero-width characters, invisible
# fillers, tag characters and variation selectors (both carry hidden text), lone surrogates.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e"
    "\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ufdd0-\ufdef"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ud800-\udfff]"
)
_STRAY_JOINER = re.compile(f"(?<![{_EMOJI}])\u200d|\u200d(?![{_EMOJI}])")
_COMBINING = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_PILED_MARKS = re.compile(f"([{_COMBINING}]{{3}})[{_COMBINING}]+")

# Characters that belong to the one before them: marks, variation selectors, skin tones, the joiner.
_EXTENDS = re.compile(f"[{_COMBINING}\ufe00-\ufe0f\u200d\U0001f3fb-\U0001f3ff]")
_LONGEST_CLUSTER = 32

# WeCom does not reliably honour a backslash, so what could be markup is shown by its full-width twin.
_LOOK_ALIKES = str.maketrans({"<": "＜", ">": "＞", "[": "［", "]": "］", "*": "＊", "`": "｀", "\\": "＼", "@": "＠"})
_LEADING_HASHES = re.compile(r"^([^\S\n]*+)(#+)", re.MULTILINE)
_ENTITY = re.compile(r"&(?=#?\w{1,32};)")

# What must stay in one piece: a link, a code span, a colour tag, a mention.
_WHOLE = re.compile(
    r"\[(?P<label>[^\[\]\n]*+)\]\((?:[^()\n]|\([^()\n]*+\))*+\)"
    r"|`(?P<code>[^`\n]++)`"
    r"|</?font[^<>\n]*+>"
    r"|<@[^<>\n]++>"
)
_BORDERS = (
    re.compile(r"\n+"),
    re.compile(r"[。！？]+[”’」』）\"')]*\s*|[.!?]+[”’\"')]*\s+"),
    re.compile(r"\s+|[，、；：]"),
)


def utf8_length(text: str) -> int:
    """Bytes of ``text`` in UTF-8, a lone surrogate counted as the one "?" that would replace it."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def strip_invisible(text: str) -> str:
    """Without characters that a reader cannot see but a machine obeys; at most three marks on one letter.

    Line breaks and tabs stay, and so does the joiner inside an emoji sequence.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _INVISIBLE.sub("", text)
    if "\u200d" in text:
        text = _STRAY_JOINER.sub("", text)
    return _PILED_MARKS.sub(r"\1", text)


def escape_markdown(text: str) -> str:
    """Foreign text made inert for WeCom Markdown: no link, mention, tag, code, emphasis, heading or quote.

    Idempotent. Never fold the result with NFKC: that would turn the look-alikes back into markup.
    """
    inert = strip_invisible(text).translate(_LOOK_ALIKES)
    inert = _ENTITY.sub("＆", inert)
    return _LEADING_HASHES.sub(lambda match: match[1] + "＃" * len(match[2]), inert)


def clip(text: str, max_bytes: int, ellipsis: str = "…") -> str:
    """``text`` if it fits into ``max_bytes`` of UTF-8, else what whole characters fit, and ``ellipsis``.

    The ellipsis is left out where it would not fit itself. Raises ValueError for a negative ``max_bytes``.
    """
    if max_bytes < 0:
        raise ValueError(f"max_bytes is {max_bytes}; a text cannot be shorter than nothing")
    text = _encodable(text)
    if utf8_length(text) <= max_bytes:
        return text
    mark = ellipsis if utf8_length(ellipsis) <= max_bytes else ""
    end = _cluster_border(text, _fitting(text, 0, max_bytes - utf8_length(mark)), 0)
    return text[:end].rstrip() + mark


def pack(blocks: Sequence[str], *, limit: int, head: str = "", separator: str = _SEPARATOR) -> list[str]:
    """Blocks packed, in order, into as few texts of at most ``limit`` bytes as greed allows.

    ``head`` opens the first text. A text is split between blocks; only a block that alone is over the limit
    is split inside: after a line, else a sentence, else a word, else a character, and never inside a link, a
    code span, a colour tag, a mention or a character. A link or code span over the limit is reduced to its
    clipped text. Empty blocks are left out. A block that fits is never changed.
    Raises ValueError where ``limit`` is under half of SMALLEST_LIMIT.
    """
    if limit < SMALLEST_LIMIT // 2:
        raise ValueError(f"a limit of {limit} bytes leaves no room for text")
    current = _clip_title(head, limit)
    texts: list[str] = []
    for block in (_encodable(block) for block in blocks):
        if not block:
            continue
        joined = current + separator + block if current else block
        if utf8_length(joined) <= limit:
            current = joined
            continue
        room = limit - utf8_length(current + separator)
        if current and utf8_length(block) > limit and room >= limit // 4:
            pieces = _pieces(block, limit, first=room) or [""]
            texts.append(current + separator + pieces[0] if pieces[0] else current)
            del pieces[0]
        else:
            texts += [current] if current else []
            pieces = _pieces(block, limit, first=limit)
        texts += pieces[:-1]
        current = pieces[-1] if pieces else ""
    return [*texts, current] if current else texts


def split(title_line: str, blocks: Sequence[str], *, limit: int) -> list[str]:
    """Texts of at most ``limit`` bytes, each opened by the title line.

    One text: the title line and its blocks. More: each title line carries its part mark, ``**Title** (2/3)``,
    and is clipped to a quarter of the limit. Raises ValueError where ``limit`` is under SMALLEST_LIMIT.
    """
    if limit < SMALLEST_LIMIT:
        raise ValueError(f"a limit of {limit} bytes leaves no room for a title, a part mark and text")
    title = _clip_title(title_line, limit // 4)
    whole = pack(blocks, limit=limit, head=title_line)
    if len(whole) <= 1:
        return whole
    for digits in range(1, 5):
        mark_room = len(" (/)") + 2 * digits + len(_SEPARATOR)
        bodies = pack(blocks, limit=limit - utf8_length(title) - mark_room)
        of = len(bodies)
        if of == 1:
            return [title + _SEPARATOR + bodies[0] if title else bodies[0]]
        if len(str(of)) <= digits:
            return [f"{title} ({n}/{of}){_SEPARATOR}{body}".lstrip() for n, body in enumerate(bodies, 1)]
    raise ValueError(f"the text needs more than 9999 parts of {limit} bytes")


def _encodable(text: str) -> str:
    """A lone surrogate has no UTF-8 form: it becomes "?", as in ``utf8_length``."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _fitting(text: str, start: int, room: int) -> int:
    """The largest end with ``text[start:end]`` within ``room`` bytes."""
    window = text[start : start + max(room, 0)]
    return start + len(window.encode("utf-8")[: max(room, 0)].decode("utf-8", "ignore"))


def _cluster_border(text: str, end: int, floor: int) -> int:
    """``end``, moved back so that no mark, skin tone or joined emoji loses its base, if that is near."""
    border = end
    while floor < border < len(text) and (_EXTENDS.match(text[border]) or text[border - 1] == "\u200d"):
        border -= 1
        if end - border > _LONGEST_CLUSTER:
            return end
    return border if border > floor else end


def _clip_title(line: str, max_bytes: int) -> str:
    """``clip`` that keeps the closing stars of a bold line."""
    if utf8_length(line) > max_bytes and line.startswith("**") and line.endswith("**") and len(line) > 4:
        return f"**{clip(line[2:-2], max_bytes - 4)}**"
    return clip(line, max_bytes)


def _reduce(match: re.Match[str], limit: int) -> str:
    """A whole too long for any text: its readable part, which may then be cut."""
    if utf8_length(match[0]) <= limit:
        return match[0]
    return clip(match["label"] or match["code"] or "", limit)


def _pieces(block: str, limit: int, *, first: int) -> list[str]:
    """One block cut into texts of at most ``limit`` bytes, the first of at most ``first``.

    The first is "" where what must stay whole needs more room than that. Nothing else is lost or added.
    """
    block = _WHOLE.sub(lambda match: _reduce(match, limit), block)
    spans = [match.span() for match in _WHOLE.finditer(block)]
    pieces: list[str] = []
    start, room = 0, first
    while start < len(block):
        end = _cut(block, start, _fitting(block, start, room), spans)
        if end == start and room == limit:  # a whole that only reducing its neighbours made: cut it
            end = _fitting(block, start, room)
        pieces.append(block[start:end])
        start, room = end, limit
    return pieces


def _cut(text: str, start: int, end: int, spans: Sequence[tuple[int, int]]) -> int:
    """The best place at or before ``end`` to cut ``text[start:]``; ``start`` where there is none."""
    if end == len(text):
        return end

    def outside(position: int) -> int:
        """``position``, or the start of the span that it would cut."""
        index = bisect_left(spans, (position, 0)) - 1
        return spans[index][0] if index >= 0 and position < spans[index][1] else position

    whole = next((border for border in _borders(text, start, end) if outside(border) == border), None)
    return whole if whole is not None else max(start, outside(_cluster_border(text, end, start)))


def _borders(text: str, start: int, end: int) -> Iterator[int]:
    """Good places to cut ``text[start:end]``, best first; none in the first half: that would waste a text."""
    earliest = start + (end - start) // 2
    for border in _BORDERS:
        ends = [match.end() for match in border.finditer(text, earliest, end)]
        yield from reversed(ends)
