import pytest

from workflows.domain.audience import Recipient, mass_send_reasons, people


def group(size: int | None, label: str = "Group") -> Recipient:
    return Recipient(channel_id=1, channel="Robot", address=label, label=label, is_group=True, size=size)


def somebody(number: int) -> Recipient:
    name = f"p{number}"
    return Recipient(channel_id=1, channel="Mail", address=name, label=name, is_group=False, size=1)


def test_one_small_group_is_no_mass_send() -> None:
    assert mass_send_reasons([group(20)], min_recipients=20) == ()


@pytest.mark.parametrize(
    ("recipients", "reason"),
    [
        ([group(21)], "group of more than 20 people: Group"),
        ([group(None)], "group size unknown: Group"),
        ([group(2, "A"), group(3, "B")], "2 groups"),
        ([somebody(number) for number in range(21)], "21 people, more than 20"),
    ],
)
def test_each_sign_of_a_mass_send_is_named(recipients: list[Recipient], reason: str) -> None:
    assert reason in mass_send_reasons(recipients, min_recipients=20)


def test_twenty_people_are_not_more_than_twenty() -> None:
    assert mass_send_reasons([somebody(number) for number in range(20)], min_recipients=20) == ()


def test_one_unknown_size_makes_the_total_unknown() -> None:
    assert people([group(5, "A"), group(None, "B")]) is None
    assert people([group(5, "A"), somebody(1)]) == 6
