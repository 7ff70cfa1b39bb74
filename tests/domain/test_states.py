from collections.abc import Mapping
from typing import Any

import pytest

from workflows.domain import states

MACHINES: list[Mapping[Any, frozenset[Any]]] = [
    states.MESSAGE_TRANSITIONS,
    states.DELIVERY_TRANSITIONS,
    states.APPROVAL_TRANSITIONS,
]


@pytest.mark.parametrize("transitions", MACHINES)
def test_every_state_says_what_may_follow(transitions: Mapping[Any, frozenset[Any]]) -> None:
    kind = type(next(iter(transitions)))
    assert {state.value for state in transitions} == set(kind.values)


def test_a_decided_request_never_moves_to_another_decision() -> None:
    closed = set(states.ApprovalState) - states.APPROVAL_OPEN - {states.ApprovalState.EXECUTING}
    assert all(not states.APPROVAL_TRANSITIONS[state] for state in closed)


def test_only_a_released_message_can_become_sent() -> None:
    assert states.allowed_from(states.MESSAGE_TRANSITIONS, states.MessageState.SENT) == [states.MessageState.RELEASED]


def test_an_unknown_delivery_is_never_due() -> None:
    assert states.DeliveryState.UNKNOWN not in states.DELIVERY_DUE
