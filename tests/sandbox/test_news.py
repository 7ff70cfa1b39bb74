"""The news world: everything follows from the clock, and readers find what they should."""

import calendar
import json
import re
from datetime import UTC, datetime
from typing import Any

import feedparser
import pytest

from compliance_bot.sandbox import news

SITE = "http://127.0.0.1:8001"
NOW = 1_790_000_000.0  # in slot 9944444, which is slot 2 of its cycle: told by regulator and briefing
PATHS = ("/news/regulator.xml", "/news/gazette.atom", "/news/briefing.json")


def fetch(path: str, now: float = NOW) -> news.Feed:
    found = news.feed(path, now, SITE)
    assert found is not None
    return found


def briefing(now: float = NOW) -> dict[str, Any]:
    return dict(json.loads(fetch("/news/briefing.json", now).body))


def without_tracking(link: str) -> str:
    return link.split("?")[0]


@pytest.mark.parametrize("path", PATHS)
def test_a_feed_is_the_same_until_its_next_item(path: str) -> None:
    slot = int(NOW) // 180 * 180
    assert fetch(path, slot) == fetch(path, slot + 179.9)
    later = fetch(path, slot + 6 * 180)
    assert later.etag != fetch(path, slot).etag
    assert later.modified > fetch(path, slot).modified


def test_every_slot_brings_exactly_one_new_item() -> None:
    for slot in range(9_944_444, 9_944_456):
        now = slot * 180
        new = {i.slot for feed in ("regulator", "gazette", "briefing") for i in news.items(feed, now)} - {
            i.slot for feed in ("regulator", "gazette", "briefing") for i in news.items(feed, now - 1)
        }
        assert new == {slot}


def test_the_three_feeds_hold_the_forty_newest_slots_between_them() -> None:
    newest = int(NOW) // 180
    slots = {i.slot for feed in ("regulator", "gazette", "briefing") for i in news.items(feed, NOW)}
    assert slots == set(range(newest - 39, newest + 1))


@pytest.mark.parametrize(
    ("path", "feed", "version", "count"),
    [("/news/regulator.xml", "regulator", "rss20", 20), ("/news/gazette.atom", "gazette", "atom10", 13)],
)
def test_feedparser_reads_every_entry_with_its_date(path: str, feed: str, version: str, count: int) -> None:
    parsed = feedparser.parse(fetch(path).body)
    expected = news.items(feed, NOW)
    assert not parsed.bozo
    assert parsed.version == version
    assert len(parsed.entries) == len(expected) == count
    for entry, item in zip(parsed.entries, expected, strict=True):
        assert entry.title == item.title
        assert datetime.fromtimestamp(calendar.timegm(entry.published_parsed), UTC) == item.at
        assert item.at.timestamp() == item.slot * 180
        assert item.summary in entry.summary
        assert without_tracking(entry.link) == SITE + item.path
    assert len({entry.id for entry in parsed.entries}) == count


def test_the_json_feed_holds_every_item_with_its_date() -> None:
    document = briefing()
    expected = news.items("briefing", NOW)
    assert document["version"] == "https://jsonfeed.org/version/1.1"
    assert len(document["items"]) == len(expected) == 14
    for row, item in zip(document["items"], expected, strict=True):
        assert datetime.fromisoformat(row["date_published"]) == item.at
        assert " ".join(row["title"].split()) == item.title
    assert len({row["id"] for row in document["items"]}) == 14


def test_twins_differ_in_noise_and_share_their_link_and_words() -> None:
    rss = {without_tracking(e.link): e for e in feedparser.parse(fetch("/news/regulator.xml").body).entries}
    rows = {without_tracking(row["url"]): row for row in briefing()["items"]}
    twins = rss.keys() & rows.keys()
    assert len(twins) == 7
    for link in twins:
        assert rss[link].link != rows[link]["url"]
        assert "utm_source=" in rss[link].link
        assert "utm_source=" in rows[link]["url"]
        assert rss[link].title != rows[link]["title"]
        assert rss[link].title == " ".join(rows[link]["title"].split())
        assert rss[link].summary != rows[link]["content_html"]


def test_a_guid_stays_with_its_item() -> None:
    earlier = {row["id"]: row for row in briefing(NOW - 3600)["items"]}
    now = {row["id"]: row for row in briefing()["items"]}
    shared = earlier.keys() & now.keys()
    assert len(shared) > 3
    assert all(earlier[guid] == now[guid] for guid in shared)


def test_no_two_of_the_newest_items_share_a_title_on_any_day_of_a_month() -> None:
    for day in range(30):
        now = NOW + day * 86_400
        slots = {i.slot: i for feed in ("regulator", "gazette", "briefing") for i in news.items(feed, now)}
        assert len({item.title for item in slots.values()}) == 40


def test_no_blank_is_left_in_any_story() -> None:
    for slot in range(9_944_444, 9_944_444 + 300):
        item = news.item(slot)
        assert not re.search(r"[{}]", item.title + item.summary)
        assert item.title[0] == item.title[0].upper()


@pytest.mark.parametrize("word", ["urgent", "fine", "deadline", "紧急", "罚款", "截止"])
def test_ranking_rules_find_their_words_among_the_newest_items(word: str) -> None:
    feed = "regulator" if word.isascii() else "gazette"
    told = [news.items(feed, NOW + hours * 3600) for hours in range(0, 24, 2)]
    hits = [any(word in (i.title + i.summary).lower() for i in items) for items in told]
    assert sum(hits) >= 8


def test_an_item_is_found_by_its_address_for_ever_but_not_before_its_time() -> None:
    item = news.items("regulator", NOW)[0]
    name = item.path.rsplit("/", 1)[1]
    assert news.find(name, NOW) == item
    assert news.find(name, NOW + 400 * 86_400) == item
    assert news.find(name, item.slot * 180 - 1) is None


@pytest.mark.parametrize("name", ["", "9944444", "9944444-gazette", "x-regulator", "-1-regulator", "٣-regulator"])
def test_an_address_that_was_never_given_out_leads_nowhere(name: str) -> None:
    assert news.find(name, NOW) is None


def test_an_item_page_says_that_it_is_invented() -> None:
    english, chinese = news.items("regulator", NOW)[0], news.items("gazette", NOW)[0]
    assert "everything on this page is invented" in news.page(english, "http://127.0.0.1:8000/")
    assert "纯属虚构" in news.page(chinese, "http://127.0.0.1:8000/")
