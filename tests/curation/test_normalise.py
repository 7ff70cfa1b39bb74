from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.curation.examples import normal
from workflows.curation.normalise import MAX_SUMMARY, MAX_TITLE, canonical_url, normalise, plain
from workflows.domain.items import SourceItem

NOISE = "<p>|</p>|<b|>|<|&amp;|&lt;|&#38;|&copy|amp;|<!--|-->|<script>|</script>|<![CDATA[|]]>|?|utm_a=1|中"
markup = st.sampled_from([*NOISE.split("|"), *"\u200d👩\u0344\u0301\x00\n\u037e\ud800"])
noisy = st.lists(markup | st.text(max_size=5), max_size=25).map("".join)
urls = st.one_of(noisy, noisy.map("https://Example.COM:443/".__add__), noisy.map("http://é.example/?".__add__))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("<p>Hello <b>wor</b>ld</p><p>again</p>", "Hello world again"),
        ("a<script>alert(1)</script><style>p{}</style>b", "ab"),
        ("<img src=x onerror=alert(1)>x", "x"),
        ("Tom &amp;amp; Jerry &amp;lt;3", "Tom & Jerry <3"),
        ("&lt;p&gt;escaped &lt;b&gt;twice&lt;/b&gt;&lt;/p&gt;", "escaped twice"),
        ("R&#38;#38;D", "R&D"),
        ("one\n\n  two\tthree\u00a0four\u3000five", "one two three four five"),
        ("if p<q then 1 < 2 & 3 > 2", "if p<q then 1 < 2 & 3 > 2"),
        ("<p>never <b>closed <i>at all", "never closed at all"),
        ("</div></p>stray", "stray"),
        ("<!-- <p>hidden</p> -->shown<!--[if mso]><b>no</b><![endif]-->", "shown"),
        ("<![CDATA[wrapped]]>", "wrapped"),
        ("pay\u202elatot\u200b \x07now", "paylatot now"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("第①条：１２３", "第①条：１２３"),
        ("家庭 👩\u200d👩\u200d👧 ok", "家庭 👩\u200d👩\u200d👧 ok"),
        ("\ud800 lone", "lone"),
        ("", ""),
    ],
)
def test_markup_becomes_the_text_that_a_reader_would_see(raw: str, expected: str) -> None:
    assert plain(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        "<div>" * 200_000 + "x",
        "<b><p>" * 160_000,
        "<" * 1_000_000,
        "<!--" * 250_000,
        "&amp;" * 200_000,
        "<a " + "x" * 1_000_000,
        "<a" * 500_000,
        "</b " * 250_000,
        '<a "' * 250_000,
        "word " * 200_000,
        "中" * 1_000_000,
    ],
)
@pytest.mark.usefixtures("patience")
def test_a_megabyte_of_summary_is_cut_to_size(raw: str) -> None:
    assert len(normal(summary=raw).summary) <= MAX_SUMMARY


def test_text_behind_a_huge_inline_picture_is_found() -> None:
    assert plain(f'<img src="data:image/png;base64,{"A" * 500_000}"><p>The ruling</p>') == "The ruling"


def test_title_and_summary_are_capped_in_characters() -> None:
    item = normal(title="长" * 900, summary="s" * 9000)
    assert (len(item.title), len(item.summary)) == (MAX_TITLE, MAX_SUMMARY)
    assert item.title.endswith("…")


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"title": "<p> </p>", "summary": "<p>What happened</p>"}, "What happened"),
        ({"title": "", "summary": "", "url": "https://News.example/x"}, "news.example"),
        ({"title": "", "summary": "", "url": ""}, ""),
    ],
)
def test_a_missing_title_comes_from_the_summary_else_from_the_host(changes: dict[str, str], title: str) -> None:
    assert normal(**changes).title == title


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTPS://News.Example:443/A?b=2&utm_source=x&a=1&gclid=9#top", "https://news.example/A?b=2&a=1"),
        ("http://news.example:80", "http://news.example/"),
        ("http://news.example:8080/?from=timeline&isappinstalled=0", "http://news.example:8080/"),
        (
            "https://mp.weixin.qq.com/s?__biz=M&mid=1&chksm=c&scene=27",
            "https://mp.weixin.qq.com/s?__biz=M&mid=1",
        ),
        ("https://user:secret@news.example/a", "https://news.example/a"),
        (
            "https://法规.example/条例?名=值",
            "https://xn--nww403d.example/%E6%9D%A1%E4%BE%8B?%E5%90%8D=%E5%80%BC",
        ),
        ("https://app.example/#/notice/7", "https://app.example/#/notice/7"),
        ("https://news.example/100%/a b", "https://news.example/100%25/a%20b"),
        ("  https://news.example/a\n", "https://news.example/a"),
        ("https://[2001:DB8::1]/x", "https://[2001:db8::1]/x"),
        ("javascript:alert(1)", ""),
        ("data:text/html,x", ""),
        ("ftp://news.example/a", ""),
        ("//news.example/a", ""),
        ("/relative", ""),
        ("https:///nohost", ""),
        ("https://[broken", ""),
        ("https://news.example:99999/", ""),
        ("https://bad host/", ""),
        ("https://news.example/" + "x" * 3000, ""),
    ],
)
def test_a_url_has_one_spelling_or_none(url: str, expected: str) -> None:
    assert canonical_url(url) == expected


@settings(max_examples=80)
@given(noisy)
def test_plain_text_is_a_fixed_point(raw: str) -> None:
    once = plain(raw)
    assert plain(once) == once
    once.encode("utf-8")


@settings(max_examples=80)
@given(noisy, urls, noisy, noisy.map(lambda text: text * 40))
def test_normalising_twice_changes_nothing(external_id: str, url: str, title: str, summary: str) -> None:
    once = normalise(SourceItem(external_id=external_id, url=url, title=title, summary=summary))
    shared = {f.name: getattr(once, f.name) for f in fields(SourceItem)}
    assert normalise(SourceItem(**shared)) == once


def test_an_edited_title_is_no_new_item_while_the_guid_stands() -> None:
    assert normal(external_id=" g1 ", title="Old").content_hash == normal(external_id="g1", title="New").content_hash


def test_tracking_parameters_and_noise_make_no_new_item() -> None:
    plain_url = normal(url="https://news.example/a?id=1")
    assert normal(url="https://NEWS.example/a?id=1&utm_source=wx#x").content_hash == plain_url.content_hash
    guid = normal(external_id="https://news.example/a")
    assert normal(external_id="https://news.example/a?utm_medium=rss").content_hash == guid.content_hash
    text = normal(url="", title="Ｂig  news!", summary="<p>It came.</p>")
    assert normal(url="", title="big <b>news</b>", summary="It came").content_hash == text.content_hash


def test_different_items_have_different_identities() -> None:
    hashes = [
        normal(external_id="x").content_hash,
        normal(url="https://news.example/x").content_hash,
        normal(url="https://news.example/y").content_hash,
        normal(url="", title="Rates up 1.5%").content_hash,
        normal(url="", title="Rates up 15%").content_hash,
        normal(url="", title="🔥").content_hash,
        normal(url="", title="💧").content_hash,
        normal(url="", title="ab", summary="c").content_hash,
        normal(url="", title="a", summary="bc").content_hash,
    ]
    assert len(set(hashes)) == len(hashes)


def test_incidents_of_a_status_page_stay_apart_by_their_anchor() -> None:
    one, two = (normal(external_id=f"https://status.example/#{number}") for number in (17, 18))
    assert one.content_hash != two.content_hash


def test_a_front_page_is_not_a_story() -> None:
    one, two = (normal(url="https://news.example/", title=title) for title in ("One", "Two"))
    assert one.story_hash != two.story_hash
    assert normal(title="One").story_hash == normal(title="Two").story_hash
