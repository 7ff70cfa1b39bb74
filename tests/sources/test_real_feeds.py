"""Feeds as the world publishes them, served over HTTP and read through the guarded session."""

import json
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from selectolax.lexbor import LexborHTMLParser

from compliance_bot.guardrails.http import GuardedSession
from tests.guardrails import Answer, Site, website
from workflows.domain.items import Fetched
from workflows.sources import SourceError, registry

FEEDS = Path(__file__).resolve().parents[3] / "shared" / "data" / "feeds"
MANIFEST = FEEDS / "manifest.json"
FILES: list[dict[str, Any]] = json.loads(MANIFEST.read_text("utf-8")) if MANIFEST.exists() else []
REAL = [entry["file"] for entry in FILES if entry["file"].startswith("real/")]

# Their dates are in Portuguese and Italian ("Seg, 24 Set 2018"), which no reader of feeds understands.
UNREADABLE_DATES = {
    "real/rbren_rss-parser__input__uolNoticias.rss",
    "real/feed-rs_feed-rs__rss2__rss_2.0_ilmessaggero.xml",
}
# Where we read better than the reader that made the manifest; checked by eye against the bytes.
BETTER_TITLES = {
    "illformed/mut-nul__meituan.xml": "美团 LongCat Interaction 团队发布大模型交互系统技术报告 WOWService",
    "illformed/fp__illformed__chardet__koi8r.xml": "Как пережить новогоднюю ночь",
    "illformed/gofeed__rss__rss_channel_item_illegal_char.xml": "abcd",
}


def test_the_real_feeds_are_there() -> None:
    if not FILES:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{MANIFEST} is missing, and CI must not pass without it")
        pytest.skip(f"{MANIFEST} is not on this machine")
    assert len(FILES) >= 90


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with website() as running:
        yield running


def read(file: str, site: Site) -> Fetched:
    body = (FEEDS / file).read_bytes()
    header = re.search(rb"Header:\s+Content-type: (.+)", body)  # feedparser's own tests say how to serve them
    content_type = header[1].decode().strip() if header else "application/xml"
    site.pages["/feed"] = Answer(headers={"Content-Type": content_type}, body=body)
    with GuardedSession(allow=[site.address]) as session:
        return registry.get("feed").fetch({"url": site.url("/feed")}, {}, session)


def plain(title: str) -> str:
    return " ".join((LexborHTMLParser(title).text() or "").split())


def skipped(fetched: Fetched) -> int:
    note = next((note for note in fetched.notes if note.endswith("it was skipped")), "")
    return len(re.findall(r"\d+", note.partition(":")[0]))


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry["file"]) for entry in FILES])
def test_every_feed_is_read_whole_or_says_why_not(entry: dict[str, Any], site: Site) -> None:
    if entry["file"] == "illformed/newsboat__data__empty.xml":
        with pytest.raises(SourceError, match="empty page"):
            read(entry["file"], site)
        return
    fetched = read(entry["file"], site)
    assert len(fetched.items) + skipped(fetched) == entry["entries_feedparser_sees"]
    assert sum(bool(item.external_id or item.url) for item in fetched.items) >= entry["entries_with_id_or_link"]
    if fetched.items and not skipped(fetched):
        expected = BETTER_TITLES.get(entry["file"], entry["first_title"])
        assert plain(fetched.items[0].title) == plain(expected)
    if not fetched.items:
        assert any("no entries" in note or "skipped" in note for note in fetched.notes)


@pytest.mark.parametrize("file", REAL)
def test_every_entry_of_a_published_feed_has_title_link_and_date(file: str, site: Site) -> None:
    fetched = read(file, site)
    assert fetched.items
    assert not skipped(fetched)
    assert all(item.title for item in fetched.items)
    assert all(re.match(r"https?://[^/]+", item.url) for item in fetched.items)
    if file in UNREADABLE_DATES:
        assert any("has a date that cannot be right or cannot be read" in note for note in fetched.notes)
    else:
        assert all(item.published_at for item in fetched.items)


@pytest.mark.parametrize(
    ("file", "titles", "url", "published"),
    [
        (
            "real/liuguyue2025-hash_wechat-rss-feeds__rss__孟岩.xml",
            ["长期投资的核心：理解复利的力量"],
            "https://mp.weixin.qq.com/s/孟岩_20251019",
            "2025-10-18T10:00:00+00:00",
        ),
        (
            "real/liuguyue2025-hash_wechat-rss-feeds__rss__硅基逆族.xml",
            ["硅基逆族 - 今日精选内容 10月17日"],
            "https://mp.weixin.qq.com/s/daily_硅基逆族",
            "2025-10-17T06:16:44+00:00",
        ),
        (
            "real/Richasy_Rodel.Reader__Atom__ruanyifeng.xml",
            ["科技爱好者周刊（第 375 期）：一扇门的 Bug"],
            "http://www.ruanyifeng.com/blog/2025/11/weekly-issue-375.html",
            "2025-11-28T00:14:06+00:00",
        ),
        (
            "real/rbren_rss-parser__input__uolNoticias.rss",
            ["Ibope: Bolsonaro perde de Haddad, Ciro e Alckmin em simulações de 2º turno"],
            None,
            None,
        ),
        ("illformed/v2__testdata__utf8-incorrect-prolog.xml", ["Café"], "", None),
        ("illformed/fp__illformed__chardet__koi8r.xml", ["Как пережить новогоднюю ночь"], "", None),
    ],
)
def test_other_scripts_and_encodings_read_as_they_were_written(
    file: str, titles: list[str], url: str | None, published: str | None, site: Site
) -> None:
    if not (FEEDS / file).exists():
        pytest.skip(f"{FEEDS / file} is not on this machine")
    fetched = read(file, site)
    assert [plain(item.title) for item in fetched.items[: len(titles)]] == titles
    if url is not None:
        assert unquote(fetched.items[0].url) == url
    assert fetched.items[0].published_at == (datetime.fromisoformat(published) if published else None)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("illformed/fp__illformed__chardet__windows1255.xml", "האם תדפיס נייר"),
        ("illformed/fp__illformed__chardet__tis620.xml", "สำนักงานส่งเสริม"),
    ],
)
def test_an_undeclared_alphabet_is_recognised(file: str, words: str, site: Site) -> None:
    if not (FEEDS / file).exists():
        pytest.skip(f"{FEEDS / file} is not on this machine")
    assert words in read(file, site).items[0].summary
