import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.domain.text import (
    SMALLEST_LIMIT,
    clip,
    escape_markdown,
    pack,
    split,
    strip_invisible,
    utf8_length,
)

LINK = re.compile(r"\[[^\[\]\n]*\]\([^()\n]*\)")
words = st.text(st.sampled_from("ab 中文。.!\n🎉é\u0301*x"), max_size=40)
links = st.builds("[{}](https://e.example/{})".format, st.text("ab中", max_size=6), st.text("xyz", max_size=30))
codes = st.builds("`{}`".format, st.text("ab 中", min_size=1, max_size=6))
block_texts = st.lists(words | links | codes, min_size=1, max_size=12).map(" ".join)
block_lists = st.lists(block_texts, max_size=8)


def test_length_is_counted_in_bytes() -> None:
    assert [utf8_length(text) for text in ("", "a", "é", "中", "🎉", "\ud800")] == [0, 1, 2, 3, 4, 1]


def test_text_that_fits_is_not_clipped() -> None:
    assert clip("中文", 6) == "中文"


def test_clipped_text_ends_in_an_ellipsis_within_the_limit() -> None:
    assert clip("中文中文", 11) == "中文…"
    assert clip("hello world", 9) == "hello…"


def test_an_ellipsis_that_does_not_fit_is_left_out() -> None:
    assert clip("abcdef", 2) == "ab"
    assert clip("中", 1) == ""


def test_a_negative_room_is_refused() -> None:
    with pytest.raises(ValueError, match="max_bytes is -1"):
        clip("a", -1)


@pytest.mark.parametrize(
    ("text", "room", "expected"),
    [
        ("ae\u0301x" * 3, 5, "a…"),  # room for a, e and the ellipsis, but e would lose its accent
        ("ab👍🏽cdef", 9, "ab…"),
        ("ab👩\u200d👩\u200d👧cd", 13, "ab…"),
    ],
)
def test_a_character_keeps_its_marks(text: str, room: int, expected: str) -> None:
    assert clip(text, room) == expected


@settings(max_examples=50)
@given(st.text(), st.integers(0, 40))
def test_clip_never_exceeds_its_room(text: str, room: int) -> None:
    assert len(clip(text, room).encode("utf-8")) <= room


@pytest.mark.parametrize(
    "attack",
    [
        "<@all>",
        "<@zhangsan>",
        "@all",
        '<font color="warning">x</font>',
        "[click](https://evil.example)",
        "[click\\](https://evil.example)",
        "**bold** *it*",
        "`code`",
        "# heading",
        "ok\n## heading",
        "> quote",
        "  > quote",
        "&lt;@all&gt;",
        "![x](https://evil.example/p.png)",
        "<\u200b@all>",
        "safe\u202e)moc.live//:sptth(]kcilc[",
    ],
)
def test_foreign_markup_becomes_inert(attack: str) -> None:
    inert = escape_markdown(attack)
    assert not re.search(r"[<>\[\]*`\\@\u202e\u200b]|^\s*#|&\w+;", inert, re.MULTILINE)
    assert len(inert) >= len(strip_invisible(attack)), "nothing that a reader sees is lost"


def test_ordinary_punctuation_is_left_alone() -> None:
    assert escape_markdown("AT&T: up 5% (Q3) – C# & no. #4，通过") == "AT&T: up 5% (Q3) – C# & no. #4，通过"


@settings(max_examples=50)
@given(st.text(st.characters() | st.sampled_from("<>@[]*`#&;\\\n\u200d👩")))
def test_escaping_twice_changes_nothing(text: str) -> None:
    assert escape_markdown(escape_markdown(text)) == escape_markdown(text)


def test_hidden_characters_go_and_emoji_families_stay() -> None:
    family = "👩\u200d👩\u200d👧"
    hidden = "".join(chr(0xE0000 + ord(char)) for char in "obey")
    assert strip_invisible(f"a\u200bb\u202ec\x00d\ud800{hidden}{family}e\u200df") == f"abcd{family}ef"
    assert strip_invisible("e" + "\u0301" * 50) == "e" + "\u0301" * 3


def test_blocks_are_packed_greedily_and_the_head_opens_the_first() -> None:
    texts = pack(["a" * 20, "b" * 20, "c" * 20], limit=50, head="H")
    assert texts == ["H\n\n" + "a" * 20 + "\n\n" + "b" * 20, "c" * 20]


def test_no_blocks_give_the_head_alone_or_nothing() -> None:
    assert pack([], limit=50, head="H") == ["H"]
    assert pack(["", ""], limit=50) == []


@settings(max_examples=50)
@given(block_lists, st.integers(SMALLEST_LIMIT // 2, 200), st.sampled_from(["", "Head", "**" + "题" * 90 + "**"]))
def test_every_text_is_within_the_limit(blocks: list[str], limit: int, head: str) -> None:
    assert all(0 < len(text.encode("utf-8")) <= limit for text in pack(blocks, limit=limit, head=head))


@settings(max_examples=50)
@given(block_lists, st.integers(SMALLEST_LIMIT // 2, 200))
def test_a_block_that_fits_stays_whole_and_in_order(blocks: list[str], limit: int) -> None:
    texts = "\x00".join(pack(blocks, limit=limit))
    position = 0
    for block in blocks:
        if utf8_length(block) <= limit:
            position = texts.index(block, position) + len(block)


@settings(max_examples=50)
@given(block_lists, st.integers(100, 200))
def test_no_character_is_lost_where_no_link_is_too_long(blocks: list[str], limit: int) -> None:
    assert "".join(pack(blocks, limit=limit, separator="")) == "".join(blocks)


@settings(max_examples=100)
@given(block_lists, st.integers(SMALLEST_LIMIT // 2, 120), st.sampled_from(["", "Head"]))
def test_no_link_is_broken(blocks: list[str], limit: int, head: str) -> None:
    texts = pack(blocks, limit=limit, head=head)
    whole = [link for block in blocks for link in LINK.findall(block) if utf8_length(link) <= limit]
    assert [link for text in texts for link in LINK.findall(text)] == whole


def test_a_long_block_is_cut_after_a_line_then_a_sentence_then_a_word() -> None:
    assert pack(["a" * 30 + "\n" + "b. b" * 10], limit=50)[0] == "a" * 30 + "\n"
    assert pack(["一二三四五六七八九十。" + "十" * 10], limit=40)[0] == "一二三四五六七八九十。"
    assert pack(["wordword wordword wordword wordword"], limit=32)[0] == "wordword wordword wordword "


def test_colour_tags_mentions_and_code_are_not_cut() -> None:
    for whole in ('<font color="comment">', "<@zhangsan>", "`a code span`"):
        for shift in range(20, 48):
            texts = pack(["x" * shift + whole + "y" * 30], limit=48)
            assert any(whole in text for text in texts)


def test_a_link_longer_than_the_limit_is_reduced_to_its_text() -> None:
    assert pack(["see [the rule](https://e.example/" + "x" * 90 + ")"], limit=64) == ["see the rule"]


def test_a_long_block_begins_below_the_head() -> None:
    first, *_ = pack(["word " * 40], limit=60, head="Head")
    assert first.startswith("Head\n\nword")


def test_one_text_carries_no_part_mark() -> None:
    assert split("**Title**", ["a", "b"], limit=100) == ["**Title**\n\na\n\nb"]


def test_several_texts_repeat_the_title_with_their_part_mark() -> None:
    texts = split("**Title**", ["a" * 60, "b" * 60, "c" * 60], limit=100)
    assert [text.split("\n\n")[0] for text in texts] == [
        "**Title** (1/3)",
        "**Title** (2/3)",
        "**Title** (3/3)",
    ]


def test_a_long_bold_title_is_clipped_and_stays_bold() -> None:
    texts = split("**" + "标" * 100 + "**", ["a" * 60, "b" * 60], limit=100)
    assert all(re.match(r"\*\*标+…\*\* \(\d/2\)\n\n", text) for text in texts)


@settings(max_examples=50)
@given(block_lists, st.integers(SMALLEST_LIMIT, 200), words)
def test_every_part_is_within_the_limit_and_numbered(blocks: list[str], limit: int, title: str) -> None:
    texts = split(title, blocks, limit=limit)
    assert all(len(text.encode("utf-8")) <= limit for text in texts)
    if len(texts) > 1:
        assert all(f"({n}/{len(texts)})\n\n" in text for n, text in enumerate(texts, 1))


def test_ten_parts_and_more_still_fit() -> None:
    texts = split("T", ["x" * 50] * 120, limit=64)
    assert len(texts) == 120
    assert max(map(utf8_length, texts)) <= 64


def test_an_absurd_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves no room"):
        split("T", ["x"], limit=SMALLEST_LIMIT - 1)
    with pytest.raises(ValueError, match="leaves no room"):
        pack(["x"], limit=10)


def test_a_link_without_text_that_is_too_long_leaves_nothing() -> None:
    assert pack(["[](https://e.example/)", "[](https://e.example/" + "x" * 20 + ")"], limit=32) == [
        "[](https://e.example/)"
    ]


def test_a_lone_surrogate_cannot_stop_a_send() -> None:
    assert pack(["a\ud800b"], limit=50) == ["a?b"]


@pytest.mark.parametrize(
    "text", ["x" * 1_000_000, "[a](" * 250_000, "`" * 999_999, "e" + "\u0301" * 500_000, "\n" * 10**6]
)
@pytest.mark.usefixtures("patience")
def test_a_megabyte_is_packed_within_the_limit(text: str) -> None:
    assert all(utf8_length(part) <= 4096 for part in split("T", [text], limit=4096))
    assert not set("<>[]`") & set(escape_markdown(text))
