import contextlib
import datetime
import json
from collections.abc import Callable, Iterator
from email.utils import format_datetime

import pytest

from compliance_bot.guardrails.http import GuardedSession
from tests.guardrails import Answer, Site, website
from workflows.domain.items import Fetched
from workflows.sources import SourceError, registry

Read = Callable[..., Fetched]
NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def site() -> Iterator[Site]:
    with website() as running:
        yield running


@pytest.fixture
def read(site: Site) -> Iterator[Read]:
    """Serves a body at /feed and fetches it."""
    with GuardedSession(allow=[site.address]) as session:

        def fetch(body: str | bytes, state: dict[str, str] | None = None, status: int = 200, **headers: str) -> Fetched:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            data = body.encode() if isinstance(body, str) else body
            site.pages["/feed"] = Answer(status=status, headers=named, body=data)
            return registry.get("feed").fetch({"url": site.url("/feed")}, state or {}, session)

        yield fetch


def rss(*items: str, channel: str = "") -> str:
    entries = "".join(f"<item>{item}</item>" for item in items)
    return f'<?xml version="1.0"?><rss version="2.0"><channel><title>C</title>{channel}{entries}</channel></rss>'


def dated(value: str) -> str:
    return rss(f"<title>t</title><pubDate>{value}</pubDate>")


# Asking


def test_an_unchanged_feed_is_not_sent_again(read: Read, site: Site) -> None:
    first = read(rss(), ETag='"v1"', Last_Modified="Mon, 02 Nov 2026 10:00:00 GMT")
    again = read(b"", first.state, 304)
    assert site.seen[1].headers["If-None-Match"] == '"v1"'
    assert site.seen[1].headers["If-Modified-Since"] == "Mon, 02 Nov 2026 10:00:00 GMT"
    assert (again.unchanged, again.items, again.state) == (True, (), first.state)


def test_validators_of_another_address_are_not_used(read: Read, site: Site) -> None:
    read(rss(), {"url": "https://old.example/", "etag": '"v1"'})
    assert "If-None-Match" not in site.seen[0].headers


def test_validators_that_the_server_no_longer_gives_are_forgotten(read: Read, site: Site) -> None:
    first = read(rss(), ETag='"v1"')
    assert read(rss(), first.state).state == {"url": site.url("/feed")}


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "The server asks for a password (HTTP 401)."),
        (403, "The server refuses to give us the feed (HTTP 403)."),
        (404, "The server has no feed at this address (HTTP 404)."),
        (410, "The server says that this feed is gone for good (HTTP 410)."),
        (418, "The server gives no feed (HTTP 418)."),
        (502, "The server has trouble of its own (HTTP 502)."),
    ],
)
def test_a_refusal_is_a_plain_sentence(status: int, sentence: str, read: Read) -> None:
    with pytest.raises(SourceError) as caught:
        read(rss("<title>t</title>"), status=status)
    assert (str(caught.value), caught.value.retry_after) == (sentence, None)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("120", 120, 120),
        (format_datetime(NOW + datetime.timedelta(hours=1), usegmt=True), 3000, 3601),
        ("Mon, 02 Nov 2020 10:00:00 -0000", 0, 0),
    ],
    ids=["seconds", "in an hour", "long ago"],
)
def test_a_request_to_stay_away_is_passed_on(status: int, value: str, low: float, high: float, read: Read) -> None:
    with pytest.raises(SourceError) as caught:
        read(b"", status=status, Retry_After=value)
    assert caught.value.retry_after is not None
    assert low <= caught.value.retry_after <= high


@pytest.mark.parametrize("value", ["soon", "-5", "99999999999999999999"])
def test_an_unreadable_wait_is_no_wait(value: str, read: Read) -> None:
    with pytest.raises(SourceError) as caught:
        read(b"", status=429, Retry_After=value)
    assert caught.value.retry_after is None


def test_an_address_that_may_not_be_reached_is_a_source_error() -> None:
    with GuardedSession() as session, pytest.raises(SourceError, match="not a public address"):
        registry.get("feed").fetch({"url": "http://127.0.0.1/feed"}, {}, session)


def test_the_form_takes_https_where_no_scheme_is_given() -> None:
    form = registry.get("feed").config_form({"url": "example.com/feed"})
    assert form.is_valid()
    assert form.cleaned_data["url"] == "https://example.com/feed"
    assert not registry.get("feed").config_form({"url": "https://example.com/" + "a" * 2000}).is_valid()


# What is not a feed


@pytest.mark.parametrize("body", [b"", b" \r\n\t", b"\0\0"])
def test_an_empty_page_is_not_a_feed(body: bytes, read: Read) -> None:
    with pytest.raises(SourceError, match="empty page"):
        read(body)


def test_a_web_page_is_not_a_feed_but_may_name_one(read: Read, site: Site) -> None:
    page = "<!doctype html><html><head>{}</head><body><p>公告</p></body></html>"
    with pytest.raises(SourceError, match=r"^The address leads to a web page, not to a feed\.$"):
        read(page.format(""), Content_Type="text/html")
    links = '<link rel="alternate" hreflang="en" href="/en"><link rel="alternate" type="{}" href="/rss.xml">'
    with pytest.raises(SourceError) as caught:
        read(page.format(links.format("application/rss+xml")), Content_Type="text/html")
    assert str(caught.value).endswith(f"names this feed: {site.url('/rss.xml')}")


@pytest.mark.parametrize("body", ["plain text", "<?xml version='1.0'?><note/>", "{", '{"a": 1}', "%PDF-1.7", "<!--"])
def test_anything_else_is_not_a_feed(body: str, read: Read) -> None:
    with pytest.raises(SourceError, match=r"not a (JSON F|f)eed"):
        read(body)


# What an entry becomes


def test_an_entry_keeps_what_its_source_published(read: Read) -> None:
    item = (
        "<title>Q&amp;amp;A &lt;b&gt;on&lt;/b&gt; rules</title><link>/a?x=1</link>"
        '<guid isPermaLink="false">urn:1</guid><author>Li Lei</author>'
        '<description>&lt;p&gt;Text &lt;a href="/b"&gt;b&lt;/a&gt;&lt;script&gt;x&lt;/script&gt;</description>'
        "<pubDate>Mon, 02 Nov 2020 10:00:00 +0800</pubDate>"
    )
    fetched = read(rss(item))
    entry = fetched.items[0]
    base = entry.url.removesuffix("/a?x=1")
    assert base.startswith("http://127.0.0.1:")
    assert (entry.external_id, entry.title, entry.author) == ("urn:1", "Q&amp;A <b>on</b> rules", "Li Lei")
    assert f'href="{base}/b"' in entry.summary
    assert "script" not in entry.summary
    assert entry.published_at == datetime.datetime(2020, 11, 2, 2, 0, tzinfo=datetime.UTC)
    assert fetched.notes == ()


def test_atom_links_are_resolved_against_xml_base(read: Read) -> None:
    entry = '<entry><id>i</id><title>t</title><link href="a"/><updated>2020-11-02T10:00:00Z</updated></entry>'
    feed = f'<feed xmlns="http://www.w3.org/2005/Atom" xml:base="https://example.com/x/">{entry}</feed>'
    item = read(feed).items[0]
    assert (item.url, item.published_at) == (
        "https://example.com/x/a",
        datetime.datetime(2020, 11, 2, 10, 0, tzinfo=datetime.UTC),
    )


def test_the_content_stands_in_for_a_missing_summary(read: Read) -> None:
    feed = '<feed xmlns="http://www.w3.org/2005/Atom"><entry><content>whole text</content></entry></feed>'
    assert read(feed).items[0].summary == "whole text"


@pytest.mark.parametrize("link", ["javascript:alert(1)", "mailto:a@example.com", "ftp://example.com/a"])
def test_a_link_that_does_not_lead_to_the_web_is_left_out(link: str, read: Read) -> None:
    fetched = read(rss(f"<title>t</title><link>{link}</link>"))
    assert fetched.items[0].url == ""


def test_an_entry_with_nothing_in_it_is_skipped_and_said_so(read: Read) -> None:
    fetched = read(rss("<title>a</title>", "<guid isPermaLink='false'>x</guid>", "<title>c</title>"))
    assert [item.title for item in fetched.items] == ["a", "c"]
    assert "entry 2: has neither title nor link nor summary; it was skipped" in fetched.notes


# Dates


@pytest.mark.parametrize(
    ("value", "note"),
    [
        ("Mon, 02 Nov 2020 10:00:00 GMT", None),
        ("2020-11-02T18:00:00+08:00", None),
        ("", "names no date"),
        ("gestern", "has a date that cannot be right or cannot be read; it counts as undated"),
        ("Thu, 01 Jan 1970 00:00:00 GMT", "has a date that cannot be right or cannot be read; it counts as undated"),
    ],
)
def test_a_date_is_read_or_its_absence_noted(value: str, note: str | None, read: Read) -> None:
    fetched = read(dated(value))
    expected = None if note else datetime.datetime(2020, 11, 2, 10, 0, tzinfo=datetime.UTC)
    assert fetched.items[0].published_at == expected
    assert fetched.notes == ((f"entry 1: {note}",) if note else ())


def test_a_date_in_the_future_stays_and_is_noted(read: Read) -> None:
    fetched = read(dated("2999-01-01T00:00:00Z"))
    assert fetched.items[0].published_at == datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC)
    assert fetched.notes == ("entry 1: is dated in the future",)


# Encodings


@pytest.mark.parametrize(
    ("encoding", "declared", "content_type"),
    [
        ("utf-8", "", "application/xml"),
        ("utf-8", "", "text/xml"),
        ("utf-8", "", "text/html; charset=iso-8859-1"),
        ("utf-8", "gb2312", "application/xml"),
        ("utf-8-sig", "", "application/xml"),
        ("gb18030", "gb2312", "text/xml"),
        ("gb18030", "gbk", "application/xml"),
        ("gb18030", "", "application/xml; charset=GBK"),
        ("gb18030", "utf-8", "application/xml; charset=gb2312"),
        ("big5", "big5", "application/xml"),
        ("utf-16", "utf-16", "application/xml"),
        ("utf-16-le", "", "application/xml"),
        ("hz", "hz-gb-2312", "application/xml"),
    ],
)
def test_chinese_is_read_in_any_of_its_encodings(encoding: str, declared: str, content_type: str, read: Read) -> None:
    declaration = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    text = declaration + rss("<title>中央公告</title>").partition("?>")[2]
    fetched = read(text.encode(encoding), Content_Type=content_type)
    assert [item.title for item in fetched.items] == ["中央公告"]
    assert fetched.notes == ("entry 1: names no date",)


def test_an_undeclared_encoding_is_recognised_and_noted(read: Read) -> None:
    text = rss("<title>关于反洗钱工作的公告</title><description>各金融机构应当遵守本规定，加强管理</description>")
    fetched = read(text.encode("gb18030"))
    assert fetched.items[0].title == "关于反洗钱工作的公告"
    assert fetched.notes[0] == "the encoding is not declared, or wrongly; the feed was read as gb18030"


def test_one_broken_byte_does_not_spoil_a_chinese_feed(read: Read) -> None:
    body = rss("<title>公告</title>", "<title>通知</title>").encode().replace("通".encode(), b"\xff")
    fetched = read(body)
    assert [item.title for item in fetched.items] == ["公告", "\ufffd知"]
    assert fetched.notes[0] == "1 broken characters were replaced (the feed is in utf-8)"


def test_what_xml_forbids_is_removed_and_noted(read: Read) -> None:
    fetched = read(rss("<title>a\0b\x08c&#11;d</title>"))
    assert fetched.items[0].title == "abcd"
    assert {"NUL bytes were removed", "control characters that XML forbids were removed"} <= set(fetched.notes)


# Broken, large, hostile


def test_a_feed_that_was_cut_off_is_read_up_to_the_cut(read: Read) -> None:
    whole = rss("<title>a</title><link>https://example.com/a</link>", "<title>b</title>")
    fetched = read(whole[: whole.index("<title>b") + 7])
    assert fetched.items[0].title == "a"
    assert fetched.notes[0].startswith("not well-formed: ")
    assert fetched.notes[0].endswith("read leniently")


def test_a_feed_without_entries_says_so(read: Read) -> None:
    fetched = read(rss())
    assert (fetched.items, fetched.notes) == ((), ("the feed has no entries",))


def test_of_too_many_entries_the_newest_are_read(read: Read) -> None:
    day = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    days = [day + datetime.timedelta(days=number) for number in range(510)]
    fetched = read(rss(*(f"<title>t</title><pubDate>{format_datetime(day)}</pubDate>" for day in days)))
    assert [item.published_at for item in fetched.items] == days[10:]
    assert fetched.notes == ("the feed has 510 entries; the 500 newest were read",)


def test_notes_are_bounded(read: Read) -> None:
    fetched = read(rss(*["<title>t</title>"] * 400))
    assert fetched.notes == ("entries 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...: names no date",)
    assert all(len(note) <= 300 for note in fetched.notes)


@pytest.mark.parametrize("before", ["", "<!-- <a> -->"])
def test_entities_do_not_multiply_and_read_no_files(before: str, read: Read) -> None:
    laughs = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    entities = f'<!ENTITY a "ha">{laughs}<!ENTITY z SYSTEM "file:///etc/passwd">'
    feed = f"{before}<!DOCTYPE rss [{entities}]>" + rss("<title>x &j; &z;</title>").partition("?>")[2]
    fetched = read(feed)
    assert len(fetched.items[0].title) < 100
    assert "root:" not in fetched.items[0].title
    assert fetched.notes[0] == "the feed declares entities of its own; the declarations were ignored"


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("start", ["<!--", "<?x ", "<![CDATA[", "<!DOCTYPE ["])
@pytest.mark.parametrize("before", ["", "<rss><channel><item><title>a</title>"])
def test_what_never_ends_is_given_up_in_time(before: str, start: str, read: Read) -> None:
    with contextlib.suppress(SourceError):
        assert len(read(before + start * 100_000).items) <= 1


# JSON Feed


def json_feed(*items: object, version: str = "https://jsonfeed.org/version/1.1") -> str:
    return json.dumps({"version": version, "title": "F", "items": items})


def test_a_json_feed_is_read(read: Read, site: Site) -> None:
    item = {
        "id": 7,
        "url": "/a",
        "title": "标题",
        "content_html": "<p>x</p>",
        "date_published": "2020-11-02T18:00:00+08:00",
        "authors": [{"name": "Han"}],
    }
    old = {"id": "8", "external_url": "https://example.com/b", "content_text": "y", "author": {"name": "Li"}}
    fetched = read(json_feed(item, old))
    first, second = fetched.items
    assert (first.external_id, first.url, first.title) == ("7", site.url("/a"), "标题")
    assert (first.summary, first.author) == ("<p>x</p>", "Han")
    assert first.published_at == datetime.datetime(2020, 11, 2, 10, 0, tzinfo=datetime.UTC)
    assert (second.url, second.summary, second.author) == ("https://example.com/b", "y", "Li")
    assert fetched.notes == ("entry 2: names no date",)


@pytest.mark.parametrize(
    "item",
    [None, 3, [], {}, {"title": ["x"], "url": {}}, {"authors": "x", "date_published": 5, "id": None}],
)
def test_a_json_entry_of_wrong_types_is_skipped(item: object, read: Read) -> None:
    fetched = read(json_feed(item, {"title": "good", "date_published": "2020-02-30T00:00:00Z"}))
    assert [entry.title for entry in fetched.items] == ["good"]
    assert len(fetched.notes) == 2


def test_a_json_feed_without_entries_says_so(read: Read) -> None:
    assert read(json_feed()).notes == ("the feed has no entries",)


@pytest.mark.parametrize("body", ["{" + '"a":[' * 100_000, json_feed(version="1"), '{"version":"jsonfeed.org"}'])
def test_other_json_is_not_a_feed(body: str, read: Read) -> None:
    with pytest.raises(SourceError, match="JSON"):
        read(body)
