"""Two configurations, told apart object by object."""

from typing import Any

from workflows.domain.configuration import Difference, compare, described


def content(**parts: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"workflow": {"name": "Watch"}, "sources": [], "cadences": [], "audience": []}
    return {**empty, "channels": [], **parts}


def only(before: dict[str, Any], after: dict[str, Any]) -> Difference:
    (difference,) = compare(before, after)
    return difference


def test_equal_configurations_do_not_differ() -> None:
    assert list(compare(content(), content())) == []


def test_a_field_of_the_workflow() -> None:
    difference = only(content(), content(workflow={"name": "Other"}))
    assert (difference.part, difference.how, difference.name) == ("workflow", "changed", "Other")


def test_an_object_that_is_new_shows_what_it_says() -> None:
    difference = only(content(), content(sources=[{"id": 3, "name": "Feed", "config": {"url": "x"}, "note": ""}]))
    assert (difference.how, difference.name) == ("added", "Feed")
    assert [(field.name, field.after) for field in difference.fields] == [("name", "Feed"), ("config.url", "x")]


def test_an_object_that_is_gone_goes_by_its_old_name() -> None:
    difference = only(content(audience=[{"id": 1, "label": "Group", "size": 4}]), content())
    assert (difference.how, difference.name) == ("removed", "Group")


def test_an_object_of_the_same_name_is_another_one() -> None:
    found = compare(content(sources=[{"id": 1, "name": "A"}]), content(sources=[{"id": 2, "name": "A"}]))
    assert [difference.how for difference in found] == ["removed", "added"]


def test_the_order_of_objects_is_no_difference() -> None:
    one, two = {"id": 1, "name": "A"}, {"id": 2, "name": "B"}
    assert list(compare(content(sources=[one, two]), content(sources=[two, one]))) == []


def test_a_long_text_is_told_line_by_line() -> None:
    before = content(workflow={"name": "Watch", "contract": "One\nTwo\nThree"})
    (field,) = only(before, content(workflow={"name": "Watch", "contract": "One\n2\nThree"})).fields
    assert field.lines == [(" ", "One"), ("-", "Two"), ("+", "2"), (" ", "Three")]


def test_a_short_text_is_not() -> None:
    (field,) = only(content(), content(workflow={"name": "Other"})).fields
    assert field.lines == []


def test_a_whole_configuration_is_told_as_if_all_of_it_were_new() -> None:
    found = list(described(content(sources=[{"id": 1, "name": "A"}])))
    assert [(difference.part, difference.name) for difference in found] == [("workflow", "Watch"), ("sources", "A")]
