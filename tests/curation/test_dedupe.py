import random
from datetime import timedelta

import pytest

from tests.curation.examples import NOW, candidate
from workflows.curation.dedupe import fold

LONG = "Regulator opens consultation on outsourcing rules for banks"


def test_the_same_link_in_two_feeds_is_one_story_told_by_the_weightier_source() -> None:
    light = candidate(1, source="Blog", weight=0, url="https://n.example/x", published_at=NOW - timedelta(hours=9))
    heavy = candidate(2, source="Gazette", weight=10, url="https://n.example/x?utm_source=b", title="Edited")
    [shown] = fold([light, heavy])
    assert (shown.id, shown.also_in, shown.folded_ids) == (2, ("Blog",), (1,))


def test_of_equal_sources_the_earliest_is_shown() -> None:
    late = candidate(1, source="A", url="https://n.example/x", published_at=NOW)
    early = candidate(2, source="B", url="https://n.example/x", published_at=NOW - timedelta(hours=1))
    assert [shown.id for shown in fold([late, early])] == [2]


def test_near_identical_titles_of_two_sources_are_one_story() -> None:
    assert len(fold([candidate(1, title=LONG, source="A"), candidate(2, title=LONG + "!", source="B")])) == 1
    chinese = "证监会就上市公司信息披露管理办法公开征求意见的通知"
    assert len(fold([candidate(1, title=chinese, source="A"), candidate(2, title=f"{chinese}稿", source="B")])) == 1


def test_titles_that_differ_in_a_number_are_two_stories() -> None:
    one, two = (candidate(n, title=f"{LONG}, notice no. {n}", source=f"S{n}") for n in (12, 13))
    assert len(fold([one, two])) == 2
    three, four = ("关于进一步加强金融机构客户身份识别工作有关事项和反洗钱监管处罚信息公示的通知第" + n for n in "三四")
    assert len(fold([candidate(1, title=three, source="A"), candidate(2, title=four, source="B")])) == 2


def test_two_items_of_one_source_with_one_title_and_two_links_are_two_stories() -> None:
    assert len(fold([candidate(1, title=LONG), candidate(2, title=LONG)])) == 2


def test_one_entry_published_twice_by_one_source_is_one_story() -> None:
    twice = [candidate(n, title=LONG, url="https://n.example/x", external_id=f"g{n}") for n in (1, 2)]
    [shown] = fold(twice)
    assert shown.also_in == ()
    assert len(shown.folded_ids) == 1


def test_a_page_that_all_items_of_a_feed_link_is_not_a_story() -> None:
    status = [candidate(n, title=f"Incident {name}", url="https://s.example/status") for n, name in enumerate("ABC")]
    other = candidate(9, title="Maintenance", url="https://s.example/status", source="Blog")
    assert len(fold([*status, other])) == 4


def test_equal_titles_days_apart_are_two_stories() -> None:
    old = candidate(1, title=LONG, source="A", published_at=NOW - timedelta(days=9))
    assert len(fold([old, candidate(2, title=LONG, source="B", published_at=NOW)])) == 2


def test_short_titles_are_not_compared() -> None:
    assert len(fold([candidate(1, title="处罚决定", source="A"), candidate(2, title="处罚决定", source="B")])) == 2


def test_a_third_source_joins_by_either_link() -> None:
    one = candidate(1, title=LONG, source="A", url="https://a.example/1")
    two = candidate(2, title=LONG, source="B", url="https://b.example/2")
    three = candidate(3, title="Something else entirely", source="C", url="https://b.example/2", published_at=NOW)
    [shown] = fold([three, two, one])
    assert len(shown.also_in) == 2
    assert {shown.id, *shown.folded_ids} == {1, 2, 3}


def test_the_result_does_not_depend_on_the_order_and_loses_no_item() -> None:
    pool = [
        candidate(
            n,
            source=f"S{n % 4}",
            weight=n % 3,
            title=f"{LONG} {n % 5 * 'again '}",
            url=f"https://n.example/{n % 9}",
        )
        for n in range(60)
    ]
    expected = fold(pool)
    for seed in range(5):
        random.Random(seed).shuffle(pool)  # noqa: S311 - a shuffle, not a secret
        assert fold(pool) == expected
    assert sorted(id_ for shown in expected for id_ in (shown.id, *shown.folded_ids)) == list(range(60))


@pytest.mark.usefixtures("patience")
def test_two_thousand_items_are_folded_even_if_all_are_alike() -> None:
    words = "alpha beta gamma delta rule bank fine court data notice market".split()  # noqa: SIM905
    rng = random.Random(1)  # noqa: S311
    mixed = [candidate(n, source=f"S{n % 9}", title=" ".join(rng.choices(words, k=9))) for n in range(2000)]
    hostile = [candidate(n, title=f"{LONG} {chr(97 + n % 26)}{chr(97 + n // 26 % 26)}") for n in range(2000)]
    for pool in (mixed, hostile):
        assert sorted(pk for shown in fold(pool) for pk in (shown.id, *shown.folded_ids)) == list(range(2000))
