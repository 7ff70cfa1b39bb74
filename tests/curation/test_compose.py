import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

import pytest

from tests.curation.examples import NOW, candidate
from workflows.curation.compose import compose, render
from workflows.curation.contract import SCHEMA_PATH, ContractError, validate
from workflows.curation.dedupe import fold
from workflows.curation.rank import Candidate, Rules, rank

ATTACKS = [
    "<@all>",
    "&lt;@all&gt;",
    "&amp;lt;@all&amp;gt;",
    "@all",
    "<script>alert(1)</script>",
    "[x](https://evil.example)",
    "](https://evil.example)",
    "**",
    "`",
    "# big",
    "> quoted",
    "</font><font color=warning>",
    "\u202e\u200b",
    "a\n\n# b\n> c",
]


def digest(*candidates: Candidate, **changes: Any) -> dict[str, Any]:
    values = {
        "workflow": "Regulatory watch",
        "kind": "update",
        "time_zone": "Asia/Shanghai",
        "language": "en",
    }
    return compose(rank(fold(candidates), Rules(), now=NOW), now=NOW, **(values | changes))


def test_a_digest_says_what_it_holds() -> None:
    fresh = candidate(7, title="Bank fined", summary="It must pay.", published_at=NOW - timedelta(hours=12))
    made = digest(fresh)
    assert (made["version"], made["generated_at"], made["considered"]) == (
        "digest.v1",
        "2025-11-23T06:00:00Z",
        1,
    )
    [entry] = made["entries"]
    assert (entry["rank"], entry["id"], entry["score"]) == (1, 7, 55)
    assert entry["rationale"] == [
        {"rule": "keyword_in_title", "points": 40, "detail": "fined"},
        {"rule": "freshness", "points": 15, "detail": "12"},
    ]
    assert json.loads(json.dumps(made)) == made


def test_a_digest_reads_as_expected_in_english() -> None:
    one = candidate(7, title="Bank fined", summary="It must pay.", published_at=NOW - timedelta(hours=12))
    content = render(digest(one))
    assert content.title == "Regulatory watch · update · 23 Nov 14:00"
    assert content.blocks == (
        "**1. [Bank fined](https://news.example/7)**\n"
        "> It must pay.\n"
        '<font color="comment">Gazette · 23 Nov 02:00 · score 55 (“fined” in title +40, fresh +15)</font>',
    )


def test_a_digest_reads_as_expected_in_chinese() -> None:
    shared = "https://n.example/x"
    pair = [
        candidate(1, title="罚款", source="公报", url=shared),
        candidate(2, source="网站", url=shared, published_at=None),
    ]
    content = render(digest(*pair, workflow="监管动态", kind="summary", language="zh-hans"))
    assert content.title == "监管动态 · 摘要 · 11月23日 14:00"
    assert content.blocks == (
        "**1. [罚款](https://n.example/x)**\n"
        '<font color="comment">公报 · 11月19日 10:00 · 另见 网站 · '
        "评分 45（标题含“罚款” +40、多个来源 +5）</font>",
    )


def test_what_is_left_out_is_counted() -> None:
    made = digest(*(candidate(n, title=f"Story {n}") for n in range(12)), limit=5)
    assert (len(made["entries"]), made["left_out"], made["considered"]) == (5, 7, 12)
    assert render(made).blocks[-1] == "… and 7 more"


def test_folded_items_are_considered_but_not_left_out() -> None:
    twins = [candidate(n, source=f"S{n}", url="https://n.example/x") for n in range(3)]
    made = digest(*twins)
    assert (len(made["entries"]), made["left_out"], made["considered"]) == (1, 0, 3)


def test_an_empty_digest_says_so() -> None:
    assert render(digest()).blocks == ("Nothing new.",)
    assert render(digest(language="zh-hans")).blocks == ("暂无新内容。",)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_nothing_foreign_is_markup(attack: str, language: str) -> None:
    rules = Rules(keywords={"urgent": 1, attack: 1} if attack.strip() else {})
    text = f"urgent {attack} end"
    one = candidate(1, title=text, summary=f"{attack} said. {attack}", source=attack + "S", url="https://e.example/a")
    other = candidate(2, source=f"T{attack}", url="https://e.example/a", published_at=None)
    made = compose(
        rank(fold([one, other]), rules, now=NOW),
        workflow=f"W {attack}",
        kind="update",
        now=NOW,
        time_zone="UTC",
        language=language,
    )
    content = render(made)
    [block] = content.blocks
    ours = block.replace('<font color="comment">', "").replace("</font>", "").replace("](https://e.example/a)**", "")
    foreign = re.sub(r"^\*\*1\. \[", "", ours).replace("\n> ", "\n") + content.title
    assert not re.search(r"[<>\[\]*`@\u202e\u200b]|^\s*#", foreign, re.MULTILINE)
    assert len(block.splitlines()) == 3


@pytest.mark.parametrize(
    "url",
    [
        "https://e.example/a)](https://evil.example",
        "https://e.example/a b",
        'https://e.example/"><@all>',
        "https://e.example/(x)?q='y'#/[z]`*",
        "https://e.example/\\)",
        "https://e.example/a\n) <@all>",
    ],
)
def test_a_link_cannot_be_broken_out_of(url: str) -> None:
    [block] = render(digest(candidate(title="T", url=url))).blocks
    assert re.fullmatch(r"\*\*1\. \[T\]\(https://e\.example/[^()\[\]<>\"'`*\\\s@]*\)\*\*", block.splitlines()[0])


@pytest.mark.parametrize("url", ["javascript:alert(1)", "", "data:text/html,x", "https:///x"])
def test_an_item_without_a_safe_link_shows_its_title_alone(url: str) -> None:
    [block] = render(digest(candidate(title="T", url=url))).blocks
    assert block.startswith("**1. T**\n")


def test_a_stored_digest_is_not_trusted_when_rendered() -> None:
    made = digest(candidate(title="T"))
    made["entries"][0] |= {
        "title": "a\n# b <@all>",
        "source": "[x](y)",
        "url": "https://u:p@e.example/?utm_id=1",
    }
    made["entries"][0]["rationale"] = [{"rule": "left_out", "points": 0, "detail": "{count}"}]
    first, *_, last = render(made).blocks[0].splitlines()
    assert first == "**1. [a # b ＜＠all＞](https://e.example/)**"
    assert "［x］(y)" in last
    assert "left_out +0" in last


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda d: d.update(version="digest.v2"), r"\$\.version: 'digest.v1' was expected"),
        (lambda d: d.update(extra=1), r"\$: Additional properties"),
        (lambda d: d.pop("left_out"), r"\$: 'left_out' is a required"),
        (lambda d: d.update(language="fr"), r"\$\.language: 'fr' is not one of"),
        (lambda d: d.update(left_out=1.0), r"\$\.left_out: 1\.0 is not a whole number"),
        (lambda d: d.update(left_out=True), r"\$\.left_out: True is not of type 'integer'"),
        (
            lambda d: d.update(generated_at="2025-13-01T00:00:00Z"),
            r"\$\.generated_at: .*is not a 'date-time'",
        ),
        (
            lambda d: d.update(generated_at="2025-11-23T06:00:00+08:00"),
            r"\$\.generated_at: .*is not a 'date-time'",
        ),
        (lambda d: d["entries"][0].update(published_at="yesterday"), r"\$\.entries\[0\]\.published_at"),
        (lambda d: d["entries"][0].update(url="javascript:x"), r"\$\.entries\[0\]\.url"),
        (lambda d: d["entries"][0].update(url="https://e.example/a b"), r"\$\.entries\[0\]\.url"),
        (lambda d: d["entries"][0].update(content_hash="x"), r"\$\.entries\[0\]\.content_hash"),
        (lambda d: d["entries"][0].update(rank=2), r"\$\.entries\[0\]\.rank: is 2, expected 1"),
        (lambda d: d["entries"][0].update(score=1), r"\$\.entries\[0\]\.score: is 1, its reasons give 0"),
        (lambda d: d["entries"][0].update(rationale=[{"rule": "r"}]), r"\$\.entries\[0\]\.rationale\[0\]"),
    ],
)
def test_a_broken_digest_is_refused_with_its_place(breakage: Callable[[dict[str, Any]], Any], message: str) -> None:
    made = digest(candidate())
    validate(made)
    breakage(made)
    with pytest.raises(ContractError, match=message):
        validate(made)


def test_the_schema_forbids_unknown_fields_everywhere() -> None:
    schema = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    objects = [schema, *(part for part in schema["$defs"].values() if part["type"] == "object")]
    assert len(objects) == 3
    for part in objects:
        assert part["additionalProperties"] is False
        assert sorted(part["required"]) == sorted(part["properties"])


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ContractError, match=r"\$\.kind"):
        digest(kind="alert")
    with pytest.raises(ZoneInfoNotFoundError):
        digest(time_zone="Mars/Base")
    with pytest.raises(ValueError, match="limit is 0"):
        digest(limit=0)
    with pytest.raises(ValueError, match="aware"):
        compose([], workflow="W", kind="update", now=datetime(2025, 1, 1), time_zone="UTC", language="en")  # noqa: DTZ001
