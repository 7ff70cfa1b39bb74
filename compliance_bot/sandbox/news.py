"""The news world: three feeds of made-up regulators, a new item every three minutes, the same for everybody.

Everything follows from the clock and nothing else: a slot of 180 seconds has one item, whose home feed, words
and address never change. Every sixth slot is told by two feeds at once (same link, other tracking parameters,
other white space and markup), so that a reader's dedupe has something to do.
"""

import hashlib
import html
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from xml.sax.saxutils import escape, quoteattr

from compliance_bot.sandbox import stories

SLOT_SECONDS = 180
KEPT_SLOTS = 40

# Which feeds tell the item of a slot, by slot % 6; the first is its home, which its address names.
_CYCLE: tuple[tuple[str, ...], ...] = (
    ("regulator",),
    ("gazette",),
    ("regulator", "briefing"),
    ("gazette",),
    ("regulator",),
    ("briefing",),
)


@dataclass(frozen=True)
class Item:
    """What one slot tells."""

    slot: int
    home: str
    title: str
    summary: str

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.slot * SLOT_SECONDS, UTC)

    @property
    def language(self) -> str:
        return "zh-CN" if self.home == "gazette" else "en"

    @property
    def path(self) -> str:
        return f"/news/item/{self.slot}-{self.home}"


@dataclass(frozen=True)
class Feed:
    """One feed at one instant, ready to be answered with."""

    body: bytes
    content_type: str
    modified: datetime

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


def item(slot: int) -> Item:
    """The item of a slot; its words depend on the slot alone."""
    place = slot % len(_CYCLE)
    home = _CYCLE[place][0]
    chinese = home == "gazette"
    # The running number among items of one language: every story is told before one comes again.
    places = [p for p, feeds in enumerate(_CYCLE) if (feeds[0] == "gazette") == chinese]
    number = slot // len(_CYCLE) * len(places) + places.index(place)
    day = datetime.fromtimestamp(slot * SLOT_SECONDS, UTC)
    title, summary = stories.tell(number, day, chinese=chinese)
    return Item(slot, home, title, summary)


def items(feed: str, now: float) -> list[Item]:
    """What a feed holds at an instant, newest first."""
    newest = int(now) // SLOT_SECONDS
    slots = range(newest, newest - KEPT_SLOTS, -1)
    return [item(slot) for slot in slots if feed in _CYCLE[slot % len(_CYCLE)]]


def find(name: str, now: float) -> Item | None:
    """The item of an address like 9876543-regulator, if it was ever published."""
    slot, _, home = name.partition("-")
    if not (slot.isascii() and slot.isdecimal() and len(slot) < 12) or int(slot) > int(now) // SLOT_SECONDS:
        return None
    found = item(int(slot))
    return found if found.home == home else None


def feed(path: str, now: float, site: str) -> Feed | None:
    """The feed at a path such as /news/regulator.xml; None if there is none."""
    if path not in _FEEDS:
        return None
    name, content_type, write = _FEEDS[path]
    found = items(name, now)
    return Feed(write(found, site).encode(), content_type, found[0].at)


def _regulator(found: list[Item], site: str) -> str:
    """RSS 2.0, English; descriptions are escaped HTML, as most are in the wild."""
    rows = [
        f"<item><title>{escape(i.title)}</title>"
        f"<link>{escape(site + i.path)}?utm_source=rss&amp;utm_medium=feed</link>"
        f'<guid isPermaLink="false">sandbox-regulator-{i.slot}</guid>'
        f"<pubDate>{format_datetime(i.at)}</pubDate>"
        f"<description>{escape(f'<p>{escape(i.summary)}</p>')}</description></item>"
        for i in found
    ]
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<rss version="2.0"><channel>'
        "<title>Harbour Data Authority (sandbox)</title>"
        f"<link>{escape(site)}/news/regulator.xml</link>"
        "<description>Made-up notices of a made-up regulator.</description><language>en</language>"
        f"<lastBuildDate>{format_datetime(found[0].at)}</lastBuildDate>\n" + "\n".join(rows) + "\n</channel></rss>\n"
    )


def _gazette(found: list[Item], site: str) -> str:
    """Atom, Chinese."""
    rows = [
        f"<entry><id>urn:sandbox:gazette:{i.slot}</id><title>{escape(i.title)}</title>"
        f"<link rel='alternate' href={quoteattr(site + i.path)}/>"
        f"<published>{_instant(i)}</published><updated>{_instant(i)}</updated>"
        f'<summary type="text">{escape(i.summary)}</summary></entry>'
        for i in found
    ]
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="zh-CN">'
        "<id>urn:sandbox:gazette</id><title>海湾数据监管局公报（沙盒）</title>"
        f"<author><name>海湾数据监管局（虚构）</name></author><updated>{_instant(found[0])}</updated>"
        f"<link rel='self' href={quoteattr(site + '/news/gazette.atom')}/>\n" + "\n".join(rows) + "\n</feed>\n"
    )


def _briefing(found: list[Item], site: str) -> str:
    """JSON Feed 1.1, English; untidy on purpose: doubled spaces, markup and its own tracking parameters."""
    rows = [
        {
            "id": f"sandbox-briefing-{i.slot}",
            "url": f"{site}{i.path}?utm_source=briefing&utm_campaign=daily",
            "title": f" {i.title.replace(' ', '  ', 1)} ",
            "content_html": f"<div>\n <p>{html.escape(i.summary)}&nbsp;</p>\n <br/>\n</div>",
            "date_published": _instant(i),
        }
        for i in found
    ]
    return json.dumps(
        {
            "version": "https://jsonfeed.org/version/1.1",
            "title": "Compliance Briefing (sandbox)",
            "home_page_url": f"{site}/",
            "feed_url": f"{site}/news/briefing.json",
            "language": "en",
            "items": rows,
        },
        ensure_ascii=False,
        indent=1,
    )


_FEEDS: dict[str, tuple[str, str, Callable[[list[Item], str], str]]] = {
    "/news/regulator.xml": ("regulator", "application/rss+xml; charset=utf-8", _regulator),
    "/news/gazette.atom": ("gazette", "application/atom+xml; charset=utf-8", _gazette),
    "/news/briefing.json": ("briefing", "application/feed+json; charset=utf-8", _briefing),
}


def page(found: Item, back: str) -> str:
    """The item as a page of its own, plainly marked as invented."""
    chinese = found.language == "zh-CN"
    note = "沙盒 – 本页内容纯属虚构" if chinese else "SANDBOX – everything on this page is invented"
    at = f"{found.at + timedelta(hours=8):%Y-%m-%d %H:%M} (UTC+8)"
    source = {
        "regulator": "Harbour Data Authority",
        "gazette": "海湾数据监管局公报",
        "briefing": "Compliance Briefing",
    }[found.home]
    return (
        f'<!doctype html>\n<html lang="{found.language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(found.title)}</title>"
        '<link rel="icon" href="/icon.svg"><link rel="stylesheet" href="/page.css"></head>'
        f'<body class="reading"><p class="banner">{note}</p><main class="article">'
        f'<p class="source">{source} · <time datetime="{_instant(found)}">{at}</time></p>'
        f"<h1>{html.escape(found.title)}</h1><p>{html.escape(found.summary)}</p>"
        f'<p><a href="{html.escape(back)}">{"返回产品" if chinese else "Back to the product"}</a></p>'
        "</main></body></html>\n"
    )


def _instant(found: Item) -> str:
    return found.at.strftime("%Y-%m-%dT%H:%M:%SZ")
