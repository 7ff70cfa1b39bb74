"""A file of members is read as a whole: each wrong line is named, with what to do about it."""

import pytest
from django.contrib.auth.models import User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit import proof
from tests import people, world
from workflows.domain.errors import Invalid
from workflows.models import Channel
from workflows.services import member_files
from workflows.services.member_files import Reading

pytestmark = pytest.mark.django_db
HEAD = "channel,address,label,is_group,size\n"


@pytest.fixture
def app() -> Channel:
    return world.app(people.alice())


def read(text: str, encoding: str = "utf-8") -> Reading:
    return member_files.read(text.encode(encoding))


def wrong(line: str) -> tuple[str, str]:
    """The column and what is said of it."""
    (problem,) = read(HEAD + line).problems
    assert problem.line == 2
    return problem.column, problem.text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_utf_8_with_and_without_a_mark_and_gb18030_are_read(app: Channel, encoding: str) -> None:
    (member,) = read(f"{HEAD}App,Zhang.San,张三,否,\n", encoding).members
    assert (member.address, member.label, member.is_group, member.size) == ("zhang.san", "张三", False, 1)


def test_the_columns_may_stand_in_any_order_and_empty_lines_do_not_matter(app: Channel) -> None:
    (member,) = read("Size,is_group,LABEL,address,channel\r\n\r\n40,Yes,Sales,party:7,App\r\n").members
    assert (member.address, member.label, member.is_group, member.size) == ("party:7", "Sales", True, 40)


@pytest.mark.parametrize(
    ("line", "column", "text"),
    [
        ("Nowhere,bob,Bob,no,", "channel", "There is no channel of the name “Nowhere”."),
        ("App,b|b,Bob,no,", "address", "Write a userid"),
        ("App,bob,,no,", "label", "This field cannot be blank."),
        ("App,bob," + "x" * 121 + ",no,", "label", "at most 120 characters"),
        ("App,bob,Bob,perhaps,", "is_group", "Write yes or no."),
        ("App,party:7,Sales,no,", "is_group", "Many people are behind this address"),
        ("App,party:7,Sales,yes,many", "size", "Write a whole number"),
        ("App,party:7,Sales,yes,-3", "size", "Write a whole number"),
        ("App,party:7,Sales,yes,0", "size", "greater than or equal to 1"),
        ("App,party:7,Sales,yes,99999999", "size", "less than or equal to 10000000"),
        ("App,bob,Bob,no,7", "", "A person needs an address and counts as 1."),
        ("App,bob,Bob,no", "", "This line does not have 5 cells."),
    ],
)
def test_what_is_wrong_with_a_line_is_said_at_its_column(app: Channel, line: str, column: str, text: str) -> None:
    found, said = wrong(line)
    assert found == column
    assert text in said


def test_an_address_that_stands_there_twice_is_named_with_both_lines(app: Channel) -> None:
    reading = read(f'{HEAD}App,ann,"Ann\nLee",no,\nApp,bob,Bob,no,\nApp,ANN,Ann,no,\n')
    (problem,) = reading.problems
    assert (problem.line, problem.column) == (5, "address")
    assert problem.text == "Line 2 has this address already."


def test_the_first_hundred_problems_are_kept_and_all_are_counted(app: Channel) -> None:
    reading = read(HEAD + "App,b|b,Bob,no,\n" * 150)
    assert (len(reading.problems), reading.wrong) == (100, 150)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "The first line has to name these columns"),
        (b"name,mail\n", "The first line has to name these columns"),
        (HEAD.replace(",", ";").encode(), "The first line has to name these columns"),
        (HEAD.encode("utf-16"), "neither UTF-8 nor GB18030|The first line has to name these columns"),
        (b"\xff\xff\xff", "neither UTF-8 nor GB18030"),
        (HEAD.encode() + b'App,"bob"b,Bob,no,\n', "Line 2 cannot be read as CSV"),
        (HEAD.encode() + b'App,"bob', "cannot be read as CSV"),
        (b" " * (member_files.MOST_BYTES + 1), "A file has at most 8 MB"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_a_remedy(app: Channel, content: bytes, text: str) -> None:
    with pytest.raises(Invalid, match=text) as refused:
        member_files.read(content)
    assert refused.value.field == "file"


def test_more_rows_than_anybody_needs_are_refused(app: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_files, "MOST_ROWS", 2)
    with pytest.raises(Invalid, match="at most 2 rows"):
        read(HEAD + "App,bob,Bob,no,\n" * 3)


def test_how_far_it_is_is_told_now_and_then(app: Channel) -> None:
    heard: list[int] = []
    lines = "".join(f"App,u{number},U,no,\n" for number in range(2_500))
    member_files.read((HEAD + lines).encode(), heard.append)
    assert heard == [1_000, 2_000]


@pytest.mark.parametrize("label", ["=cmd()", "'t Hart", "'=x", "+1", "@all", "-", "''", 'a,b"c'])
def test_what_was_exported_is_read_again_as_it_was(app: Channel, label: str) -> None:
    cell = proof.neutral(label).replace('"', '""')
    (member,) = read(f'{HEAD}App,bob,"{cell}",no,\n').members
    assert member.label == label


def test_a_name_that_begins_with_an_apostrophe_of_its_own_keeps_it(app: Channel) -> None:
    (member,) = read(f"{HEAD}App,bob,'t Hart,no,\n").members
    assert member.label == "'t Hart"


def test_an_export_is_a_file_that_changes_nothing(app: Channel) -> None:
    alice = User.objects.get()
    audience = world.members(app, "ann", "party:7", "@all")
    rows = list(member_files.export(audience, by=alice))
    text = "".join(",".join(proof.neutral(cell) for cell in row) + "\n" for row in rows[:2])
    assert [member.address for member in read(HEAD + text).members] == ["ann", "party:7"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.binary(max_size=300), st.text(max_size=100).map(lambda text: (HEAD + text).encode("utf-8", "ignore")))
)
def test_no_bytes_whatsoever_are_more_than_refused(app: Channel, content: bytes) -> None:
    try:
        reading = member_files.read(content)
    except Invalid:
        return
    assert reading.problems or not reading.members or all(member.label for member in reading.members)
