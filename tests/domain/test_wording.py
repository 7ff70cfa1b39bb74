"""Templates of messages: declared variables, inert values, and nothing else of a programming language."""

import pytest

from workflows.domain.content import Content
from workflows.domain.wording import LONGEST, WordingError, check, declared, of_digest, render, samples

DECLARED = declared("deadline = 30 November\noffices[] = Beijing; Shanghai")


def test_places_are_filled() -> None:
    text = render(
        "By {{ deadline }}: {% for office in offices %}{{ office }}{% if not forloop.last %}, {% endif %}{% endfor %}.",
        samples(DECLARED),
    )
    assert text == "By 30 November: Beijing, Shanghai."


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("<@all>", "＜＠all＞"),
        ("[click](https://evil.example)", "［click］(https://evil.example)"),
        ("**loud**", "＊＊loud＊＊"),
        ("a\n\n# b", "a # b"),
        ("<script>", "＜script＞"),
        ("{{ deadline }}", "{{ deadline }}"),
    ],
)
def test_a_value_is_inert(value: str, shown: str) -> None:
    assert render("{{ deadline }}", {"deadline": value}) == shown
    assert render("{% for one in many %}{{ one }}{% endfor %}", {"many": [value]}) == shown


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ surprise }}", "“surprise” is not declared (there are: deadline, offices)"),
        ("{% if surprise %}x{% endif %}", "“surprise” is not declared"),
        ("{% if deadline == surprise or not offices %}x{% endif %}", "“surprise” is not declared"),
        ("{% for one in surprise %}x{% endfor %}", "“surprise” is not declared"),
        ("{{ deadline|default:surprise }}", "“surprise” is not declared"),
        ("{% include 'secrets' %}", "“include” cannot be used here"),
        ("{% load static %}", "cannot be read"),
        ("{% debug %}", "“debug” cannot be used here"),
        ("{% now 'Y' %}", "“now” cannot be used here"),
        ("{% with a=deadline %}{{ a }}{% endwith %}", "“with” cannot be used here"),
        ("{% if deadline %}{% debug %}{% endif %}", "“debug” cannot be used here"),
        ("{{ deadline|center:99999999 }}", "The filter “center” cannot be used here"),
        ("{{ deadline.upper }}", "“deadline” has no parts"),
        ("{{ deadline.__class__ }}", "cannot be read"),
        ("{% for a, b in offices %}x{% endfor %}", "one variable"),
        ("{% for a in offices %}{% for b in offices %}x{% endfor %}{% endfor %}", "loop inside a loop"),
        ("{% if deadline %}", "cannot be read"),
    ],
)
def test_whatever_is_no_plain_wording_is_refused(source: str, why: str) -> None:
    with pytest.raises(WordingError) as refused:
        check(source, DECLARED)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("deadline", "Line 1: write “name = sample”"),
        ("ok = 1\nNot OK = 2", "Line 2: write “name = sample”"),
        ("a = 1\na = 2", "Line 2: “a” is declared twice"),
        ("__class__ = 1", "Line 1"),
    ],
)
def test_a_declaration_that_cannot_be_read_names_its_line(text: str, why: str) -> None:
    with pytest.raises(WordingError) as refused:
        declared(text)
    assert why in str(refused.value)


def test_what_becomes_too_long_is_refused() -> None:
    with pytest.raises(WordingError, match="characters"):
        render("{% for one in many %}" + "x" * 1000 + "{% endfor %}", {"many": ["a"] * (LONGEST // 1000 + 1)})


def test_a_digest_keeps_its_markdown_and_its_entries() -> None:
    content = Content(title="Watch", blocks=("**1. [A](https://a.example)**", "**2. B**"))
    shown = of_digest("Good morning!\n\n{% for item in items %}{{ item }}\n\n{% endfor %}Bye", content)
    assert shown.blocks == ("Good morning!", "**1. [A](https://a.example)**", "**2. B**", "Bye")
    assert shown.title == "Watch"
