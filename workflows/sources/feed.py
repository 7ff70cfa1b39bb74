"""A feed: RSS, Atom, RDF and CDF as feedparser reads them, and JSON Feed.

What arrives is decoded and stripped of what XML forbids before feedparser sees it, because feedparser reads a
whole Chinese feed as windows-1252 when one byte of it is broken. Whatever was odd becomes a note.
"""

import contextlib
import io
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin

import feedparser
from charset_normalizer import from_bytes
from django import forms
from django.core.validators import URLValidator
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _
from selectolax.lexbor import LexborHTMLParser

from compliance_bot.guardrails.http import GuardedSession, Limits, OutboundError, Reply
from workflows.domain.items import Fetched, SourceItem
from workflows.sources import Source, SourceError, register

MOST_ENTRIES = 500
MOST_NOTES = 20
# feedparser takes some 4 seconds for a MiB of broken feed, and a worker has a minute for its task.
LIMITS = Limits(max_bytes=5 * 2**20)
ACCEPT = "application/atom+xml, application/rss+xml, application/feed+json, application/xml;q=0.9, */*;q=0.8"
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DECLARED = re.compile(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)")
_IN_HEADER = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
# A DOCTYPE with declarations of its own, after whatever may precede it; nothing here backtracks.
_DECLARATIONS = re.compile(r"((?>\s+|<\?.*?\?>|<!--.*?-->)*+)<!DOCTYPE[^\[>]*+\[.*?\]\s*+>", re.DOTALL)
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
# What an undeclared encoding may be; left to itself, the guess takes Portuguese for Baltic.
_CHINESE_JAPANESE_KOREAN = ["gb18030", "big5", "shift_jis", "euc_jp", "euc_kr"]
_GUESSES = [*_CHINESE_JAPANESE_KOREAN, "cp1252", "cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "tis_620"]
_REASONS = {
    401: "asks for a password",
    403: "refuses to give us the feed",
    404: "has no feed at this address",
    410: "says that this feed is gone for good",
    429: "says that we ask too often",
    503: "is out of service for now",
}


class FeedForm(forms.Form):
    """What has to be known about a feed."""

    url = forms.URLField(
        label=_("Feed address"),
        max_length=2000,
        assume_scheme="https",
        validators=[URLValidator(schemes=["http", "https"])],
    )


class _Notes:
    """What was odd, once each, with the entries that it was odd about."""

    def __init__(self) -> None:
        self._entries: dict[str, list[int]] = defaultdict(list)

    def add(self, sentence: str, *entries: int) -> None:
        self._entries[sentence].extend(entries)

    def bounded(self) -> tuple[str, ...]:
        notes = [self._line(sentence, entries)[:300] for sentence, entries in self._entries.items()]
        if len(notes) > MOST_NOTES:
            notes[MOST_NOTES - 1 :] = [f"{len(notes) - MOST_NOTES + 1} more notes are left out"]
        return tuple(notes)

    def _line(self, sentence: str, entries: list[int]) -> str:
        if not entries:
            return sentence
        shown = ", ".join(map(str, entries[:10])) + (", ..." if len(entries) > 10 else "")
        return f"{'entry' if len(entries) == 1 else 'entries'} {shown}: {sentence}"


@register
class Feed(Source):
    """Asks with the validators of last time, so that an unchanged feed costs its publisher nothing."""

    kind = "feed"
    label = _("Feed (RSS, Atom, JSON Feed)")
    config_form = FeedForm

    def fetch(self, config: Mapping[str, Any], state: Mapping[str, str], http: GuardedSession) -> Fetched:
        url = config["url"]
        known = state if state.get("url") == url else {}
        names = {"etag": "If-None-Match", "modified": "If-Modified-Since"}
        conditions = {header: known[name] for name, header in names.items() if known.get(name)}
        try:
            reply = http.get(url, headers={"Accept": ACCEPT, **conditions}, limits=LIMITS)
        except OutboundError as error:
            raise SourceError(str(error)) from error
        if reply.status == 304:
            return Fetched(items=(), state=dict(state), unchanged=True)
        _check(reply)
        notes = _Notes()
        entries = _entries(reply, notes)
        if not entries:
            notes.add("the feed has no entries")
        items = _newest(list(_items(entries, notes)), notes)
        validators = {"etag": reply.headers.get("ETag", ""), "modified": reply.headers.get("Last-Modified", "")}
        remembered = {"url": url, **{name: value for name, value in validators.items() if value}}
        return Fetched(items=items, state=remembered, notes=notes.bounded())


def _check(reply: Reply) -> None:
    if not 200 <= reply.status < 300:
        reason = _REASONS.get(reply.status, "has trouble of its own" if reply.status >= 500 else "gives no feed")
        wait = _retry_after(reply.headers.get("Retry-After", ""))
        raise SourceError(f"The server {reason} (HTTP {reply.status}).", retry_after=wait)
    if not reply.body.strip(b"\0 \t\r\n"):
        raise SourceError("The server sent an empty page instead of a feed.")


def _retry_after(value: str) -> float | None:
    """Seconds from now, given as such or as an HTTP date."""
    if re.fullmatch(r"\d{1,9}", value.strip()):
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:  # "-0000" stands for UTC
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - timezone.now()).total_seconds())


def _entries(reply: Reply, notes: _Notes) -> list[Mapping[str, Any]]:
    """The entries as mappings with feedparser's names."""
    text = _text(reply, notes).lstrip("\ufeff \t\r\n")
    if text.startswith("{"):
        return _json_entries(text, reply.url)
    if declarations := _DECLARATIONS.match(text):
        text = declarations[1] + text[declarations.end() :]
        notes.add("the feed declares entities of its own; the declarations were ignored")
    headers = {"content-type": "application/xml; charset=utf-8", "content-location": reply.url}
    try:
        feed = feedparser.parse(
            io.BytesIO(text.encode()), response_headers=headers, resolve_relative_uris=True, sanitize_html=True
        )
    except (
        ValueError,
        OverflowError,
        AssertionError,
        LookupError,
        RecursionError,
    ) as error:  # what its lenient half raises
        raise SourceError(f"The feed is too broken to be read ({type(error).__name__}).") from error
    if not feed.get("version") and not feed.entries:
        raise SourceError(_not_a_feed(text, reply.url))
    if feed.bozo:
        notes.add(f"not well-formed: {_reason(feed.bozo_exception)}; read leniently")
    return list(feed.entries)


def _reason(error: Exception) -> str:
    told = getattr(error, "getMessage", error.__str__)()
    place = getattr(error, "getLineNumber", lambda: None)()
    return f"{told} (line {place})" if place else str(told)


def _text(reply: Reply, notes: _Notes) -> str:
    """The body as text without what XML forbids.

    Bytes that are valid UTF-8 are UTF-8, whatever headers and declarations say: chance does not make it so.
    Then what is declared; then what it looks like. A few broken bytes do not discredit a declaration.
    """
    body = reply.body
    wide = next((encoding for mark, encoding in _MARKS if body.startswith(mark)), None)
    if wide:
        return _without_controls(body.decode(wide, errors="replace"), notes)
    in_header, in_body = _IN_HEADER.search(reply.headers.get("Content-Type", "")), _DECLARED.match(body)
    declared = [found for found in (in_header and in_header[1], in_body and in_body[1].decode()) if found]
    clean = body.replace(b"\0", b"")
    if clean != body:
        notes.add("NUL bytes were removed")
    return _without_controls(_decoded(clean, [_superset(name) for name in declared], notes), notes)


def _superset(encoding: str) -> str:
    """What publishers mean by what they declare."""
    supersets = {"gb2312": "gb18030", "gbk": "gb18030", "iso-8859-1": "windows-1252", "us-ascii": "utf-8"}
    return supersets.get(encoding.lower(), encoding)


def _decoded(body: bytes, declared: list[str], notes: _Notes) -> str:
    seven_bit = any(encoding.lower().startswith(("iso-2022", "hz")) for encoding in declared)  # looks like ASCII
    for encoding in declared if seven_bit else ["utf-8-sig", *declared]:
        with contextlib.suppress(UnicodeDecodeError, LookupError):
            return body.decode(encoding)
    for encoding in [*declared, "utf-8"]:
        with contextlib.suppress(LookupError):
            text = body.decode(encoding, errors="replace")
            broken = text.count("\ufffd")
            whole = sum(character > "\x7f" for character in text) - broken
            if broken * 10 <= whole or (broken <= 3 and (whole > broken or encoding in declared)):
                notes.add(f"{broken} broken characters were replaced (the feed is in {encoding})")
                return text
    best = from_bytes(body, cp_isolation=_GUESSES).best()
    name = best.encoding if best else "latin-1"
    notes.add(f"the encoding is not declared, or wrongly; the feed was read as {name}")
    return body.decode(name, errors="replace")


def _without_controls(text: str, notes: _Notes) -> str:
    clean, removed = _NOT_IN_XML.subn("", text)
    if removed:
        notes.add("control characters that XML forbids were removed")
    return clean


def _not_a_feed(text: str, url: str) -> str:
    if not re.search(r"<(!doctype\s+html|html|body|head)\b", text[:5000], re.IGNORECASE):
        return "What the server sent is not a feed."
    for link in LexborHTMLParser(text).css("link[rel~=alternate][href]"):
        if re.search(r"rss|atom|feed\+json", link.attributes.get("type") or ""):
            found = urljoin(url, link.attributes["href"] or "")
            return f"The address leads to a web page, not to a feed. The page names this feed: {found}"
    return "The address leads to a web page, not to a feed."


def _json_entries(text: str, url: str) -> list[Mapping[str, Any]]:
    try:
        feed = json.loads(text)
    except (ValueError, RecursionError):
        raise SourceError("What the server sent is not a feed (it begins like JSON but is not valid).") from None
    entries = feed.get("items")
    if "jsonfeed.org" not in str(feed.get("version")) or not isinstance(entries, list):
        raise SourceError("The server sent JSON, but not a JSON Feed.")
    return [_json_entry(entry if isinstance(entry, dict) else {}, url) for entry in entries]


def _json_entry(entry: dict[str, Any], url: str) -> Mapping[str, Any]:
    """In feedparser's terms. Values of a wrong type count as absent; numbers serve as ids (as in 1.0)."""

    def text(*names: str) -> str:
        values = (entry.get(name) for name in names)
        return next((str(value) for value in values if value and isinstance(value, str | int)), "")

    people = entry.get("authors") or [entry.get("author")]
    person = people[0] if isinstance(people, list) and people else None
    link = text("url", "external_url")
    return {
        "id": text("id"),
        "link": _joined(url, link) if link else "",
        "title": text("title"),
        "summary": text("summary", "content_html", "content_text"),
        "author": str(person.get("name") or "") if isinstance(person, dict) else "",
        "published": text("date_published", "date_modified"),
    }


def _joined(base: str, link: str) -> str:
    try:
        return urljoin(base, link)
    except ValueError:  # brackets that are not an IPv6 address
        return ""


def _items(entries: list[Mapping[str, Any]], notes: _Notes) -> Iterator[SourceItem]:
    now = timezone.now()
    for number, entry in enumerate(entries, 1):
        values = {name: _value(entry, name) for name in ("id", "link", "title", "summary", "author")}
        if not values["summary"] and entry.get("content"):
            values["summary"] = _NOT_IN_XML.sub("", entry["content"][0].get("value") or "")
        if values["link"] and not re.match(r"https?://", values["link"], re.IGNORECASE):
            notes.add("has a link that does not lead to the web; it was left out", number)
            values["link"] = ""
        if not (values["title"] or values["link"] or values["summary"]):
            notes.add("has neither title nor link nor summary; it was skipped", number)
            continue
        yield SourceItem(
            external_id=values["id"],
            url=values["link"],
            title=values["title"],
            summary=values["summary"],
            author=values["author"],
            published_at=_instant(entry, number, now, notes),
        )


def _value(entry: Mapping[str, Any], name: str) -> str:
    return _NOT_IN_XML.sub("", entry.get(name) or "").strip()


def _instant(entry: Mapping[str, Any], number: int, now: datetime, notes: _Notes) -> datetime | None:
    """When the entry was published, or else last changed."""
    given = dict(entry.items())  # feedparser's own lookup substitutes one date for another and warns of it
    names = [name for name in ("published", "updated", "created") if given.get(name)]
    if not names:
        notes.add("names no date", number)
        return None
    for name in names:
        parsed = given.get(f"{name}_parsed")
        found = _utc(parsed) if parsed else _from_text(given[name])
        if found and found >= _EARLIEST:
            if found > now:
                notes.add("is dated in the future", number)
            return found
    notes.add("has a date that cannot be right or cannot be read; it counts as undated", number)
    return None


def _utc(parsed: time.struct_time) -> datetime | None:
    try:
        return datetime(*parsed[:6], tzinfo=UTC)
    except ValueError:
        return None


def _from_text(value: str) -> datetime | None:
    try:
        found = parse_datetime(value.strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC) if found else None
    except (ValueError, OverflowError):  # 30 February; year 1 in the far east
        return None


def _newest(items: list[SourceItem], notes: _Notes) -> tuple[SourceItem, ...]:
    """All in the feed's order; of too many the newest, where undated ones count as oldest."""
    if len(items) <= MOST_ENTRIES:
        return tuple(items)
    notes.add(f"the feed has {len(items)} entries; the {MOST_ENTRIES} newest were read")
    newest = sorted(range(len(items)), key=lambda at: items[at].published_at or _EARLIEST, reverse=True)
    return tuple(items[at] for at in sorted(newest[:MOST_ENTRIES]))
