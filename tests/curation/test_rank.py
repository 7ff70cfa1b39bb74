import random
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.curation.examples import NOW, candidate
from workflows.curation.rank import Candidate, Ranked, Rules, rank


def ranked(one: Candidate, rules: Rules | None = None) -> Ranked:
    [result] = rank([one], rules or Rules(), now=NOW)
    return result


def points(one: Candidate) -> dict[str, int]:
    return {reason.rule: reason.points for reason in ranked(one).rationale}


def test_a_keyword_counts_double_in_the_title_and_once_in_all() -> None:
    assert points(candidate(title="Breach after breach", summary="a breach")) == {"keyword_in_title": 50}
    assert points(candidate(title="News", summary="A BREACH. A breach.")) == {"keyword": 25}


def test_english_keywords_match_whole_words() -> None:
    assert points(candidate(title="Refined definitions recalling nothing")) == {}


def test_chinese_keywords_match_inside_text_and_english_ones_beside_it() -> None:
    assert points(candidate(title="银行被罚款百万")) == {"keyword_in_title": 40}
    assert points(candidate(title="数据breach通报")) == {"keyword_in_title": 50}


def test_spellings_of_one_term_count_once() -> None:
    assert ranked(candidate(title="紧急 urgent 紧急")).score == 60


@pytest.mark.parametrize(("hours", "expected"), [(0, 20), (12, 15), (24, 10), (47.9, 0), (48, 0), (900, 0), (-5, 20)])
def test_freshness_falls_linearly_over_two_days(hours: float, expected: int) -> None:
    assert ranked(candidate(published_at=NOW - timedelta(hours=hours))).score == expected


def test_an_undated_item_is_not_fresh() -> None:
    assert ranked(candidate(published_at=None)).rationale == ()


def test_the_source_weight_is_bounded_and_may_be_negative() -> None:
    assert points(candidate(weight=-20)) == {"source": -20}
    assert points(candidate(weight=900)) == {"source": 50}


def test_other_sources_add_points_up_to_a_bound() -> None:
    one = candidate()
    for count, expected in ((1, 5), (3, 15), (9, 15)):
        names = tuple(f"S{n}" for n in range(count))
        more = Candidate(item=one.item, source_name="G", source_weight=0, id=1, also_in=names)
        assert points(more) == {"also_in": expected}


def test_every_rule_says_what_it_saw() -> None:
    result = ranked(candidate(title="罚款", weight=3, published_at=NOW - timedelta(hours=12)))
    assert [(r.rule, r.points, r.detail) for r in result.rationale] == [
        ("keyword_in_title", 40, "罚款"),
        ("freshness", 15, "12"),
        ("source", 3, "Gazette"),
    ]


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from(["urgent", "罚款", "breach", "fine", "the", "条例", "deadline"]), max_size=8).map(
        " ".join
    ),
    st.integers(-60, 60),
    st.integers(-100, 100),
)
def test_the_score_is_the_sum_of_its_reasons(title: str, weight: int, hours: int) -> None:
    result = ranked(candidate(title=title, weight=weight, published_at=NOW - timedelta(hours=hours)))
    assert result.score == sum(reason.points for reason in result.rationale)


def test_the_order_is_score_then_newest_then_hash_whatever_the_input_order() -> None:
    pool = [candidate(n, weight=n % 3, published_at=NOW - timedelta(days=9, hours=n % 4)) for n in range(40)]
    pool.append(candidate(99, published_at=None))
    expected = [one.candidate.id for one in rank(pool, Rules(), now=NOW)]
    for seed in range(5):
        random.Random(seed).shuffle(pool)  # noqa: S311 - a shuffle, not a secret
        result = rank(pool, Rules(), now=NOW)
        assert [one.candidate.id for one in result] == expected
    assert [one.score for one in result] == sorted((one.score for one in result), reverse=True)
    assert expected[-1] == 99, "of equal scores, the undated comes last"


def test_rules_that_cannot_be_applied_are_refused() -> None:
    with pytest.raises(ValueError, match="empty spelling"):
        Rules(keywords={"fine|": 3})
    with pytest.raises(ValueError, match="whole number"):
        Rules(keywords={"fine": 1.5})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="freshness_hours"):
        Rules(freshness_hours=0)
    with pytest.raises(ValueError, match="in_title_factor"):
        Rules(in_title_factor=0)


def test_a_naive_now_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        rank([], Rules(), now=datetime(2025, 1, 1))  # noqa: DTZ001
