import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.curation.examples import normal
from workflows.curation.summarise import summarise


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("", ""),
        ("One fact. Another fact.", "One fact. Another fact."),
        (
            "The U.S. Treasury fined No. 5 by 3.5 million. It paid.",
            "The U.S. Treasury fined No. 5 by 3.5 million. It paid.",
        ),
        ("Title. The news is here.", "The news is here."),
        ("Title – the news is here.", "the news is here."),
        ("Titles matter.", "Titles matter."),
        ("Title", ""),
        ("Read more. The news is here.", "The news is here."),
        ("The news is here. Read more…", "The news is here."),
        ("The news is here [&#8230;] Continue reading Title", "The news is here"),
        ("The news is here. The post Title appeared first on Blog.", "The news is here."),
        ("点击查看详情", ""),
        ("监管发布新规。自明年起施行！点击查看全文", "监管发布新规。自明年起施行！"),
        ("来源：新华社。监管发布新规。", "监管发布新规。"),
        ("— … !!!", ""),
    ],
)
def test_the_first_informative_sentences_are_taken(summary: str, expected: str) -> None:
    assert summarise(normal(title="Title", summary=summary)) == expected


def test_whole_sentences_are_preferred_to_a_cut() -> None:
    assert summarise(normal(summary="A short one. " + "A long one " * 30), max_chars=60) == "A short one."


def test_a_long_first_sentence_is_cut_after_a_word() -> None:
    assert summarise(normal(summary="regulator " * 40), max_chars=25) == "regulator regulator…"


def test_a_long_chinese_sentence_is_cut_after_a_character() -> None:
    assert summarise(normal(summary="规" * 300), max_chars=20) == "规" * 19 + "…"


def test_an_english_word_in_a_chinese_sentence_is_not_cut() -> None:
    assert summarise(normal(summary="依照compliance规定" * 9), max_chars=9) == "依照…"


@settings(max_examples=50)
@given(st.text(st.sampled_from("ab 中。.!👩\u200dé"), max_size=300), st.integers(2, 60))
def test_a_summary_never_exceeds_its_room(text: str, room: int) -> None:
    assert len(summarise(normal(summary=text), max_chars=room)) <= room


def test_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="max_chars is 1"):
        summarise(normal(summary="x"), max_chars=1)


@pytest.mark.parametrize("text", ["[" * 2000, " " * 2000, "the post " * 220, "a.b." * 500, "…" * 2000, "W" * 2000])
@pytest.mark.usefixtures("patience")
def test_odd_text_is_summarised_within_the_room(text: str) -> None:
    assert len(summarise(normal(summary=text))) <= 160
