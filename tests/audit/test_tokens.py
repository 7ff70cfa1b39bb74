import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import tokens
from audit.search_index import holds

chinese = st.text(alphabet="审批群发通知机器人合规", min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Alice approved", ["alice", "approved"]),
        ("群发消息", ["群发", "发消", "消息", "息"]),
        ("WeCom机器人 v2", ["wecom", "机器", "器人", "人", "v2"]),
        ("ＡＢＣ１２", ["abc12"]),
        ("snake_case-and.dots", ["snake", "case", "and", "dots"]),
        ("Straße İstanbul", ["strasse", "i̇stanbul".replace("̇", "")[:1], "stanbul"]),
        ("", []),
        ("… — !?", []),
    ],
)
def test_a_text_as_tokens(text: str, found: list[str]) -> None:
    assert list(tokens.of(text)) == found


@given(chinese, st.data())
def test_any_part_of_a_chinese_text_finds_it(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    assert holds(tokens.of(text), [[tokens.asked(text[start:end])]])


@given(st.text(), st.text())
def test_what_is_asked_for_is_never_an_error(text: str, query: str) -> None:
    holds(tokens.of(text), [[tokens.asked(query)]])


@given(st.text())
def test_tokens_hold_neither_blanks_nor_quotation_marks(text: str) -> None:
    for token in [*tokens.of(text), *tokens.asked(text), tokens.named("who", text)]:
        assert not set(token) & set(" \t\r\n\"'\\\x00")
        assert len(token) <= 210


def test_a_star_asks_for_the_beginning() -> None:
    assert tokens.asked("appro*") == ["appro*"]
    assert tokens.asked("*") == []


def test_an_exact_value_is_no_word() -> None:
    assert tokens.named("who", "Wang Wei") == tokens.named("who", "wang wei") == ".who=wang%20wei"
    assert ".who=wang%20wei" not in list(tokens.of("who=wang%20wei"))


def test_a_text_of_megabytes_is_found_by_its_beginning() -> None:
    found = tokens.several(iter([" ".join(map(str, range(100_000)))]))
    assert (len(found), found[0]) == (4000, "0")
