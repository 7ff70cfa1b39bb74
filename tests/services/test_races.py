"""Several connections at once: exactly one outcome, whoever comes first."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import pytest
from django.contrib.auth.models import User
from django.db import connection

from tests import people, world
from tests.services.test_runs import MONDAY_NINE
from tests.services.test_standing import active_workflow, asked, decided, digest_message
from workflows import roles
from workflows.channels import Receipt
from workflows.domain.errors import WorkflowError
from workflows.domain.states import ApprovalState, MessageState, Verdict
from workflows.models import ApprovalDecision, ApprovalRequest, Cadence, Delivery, DeliveryAttempt, Message, Run
from workflows.services import approvals, delivery, ledger, messages, outcomes, runs

pytestmark = pytest.mark.usefixtures("committed")


def at_once(*calls: Callable[[], object]) -> list[object]:
    """Run all calls at the same moment, each on a connection of its own; results or refusals, in order."""
    barrier = Barrier(len(calls))

    def call(one: Callable[[], object]) -> object:
        barrier.wait()
        try:
            return one()
        except WorkflowError as refusal:
            return refusal
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def pending() -> ApprovalRequest:
    alice = people.alice()
    draft = world.message(alice, world.audience(world.robot(alice)))
    messages.submit(message_id=draft.pk, by=alice)
    return ApprovalRequest.objects.get()


def verdict_of(request: ApprovalRequest, officer: User, verdict: Verdict) -> Callable[[], object]:
    return lambda: approvals.decide(approval_id=request.pk, verdict=verdict, by=officer, reason="At once")


def test_many_officers_at_once_make_one_decision_and_one_execution() -> None:
    request = pending()
    officers = [people.person(f"officer{number}", roles.OFFICER) for number in range(50)]
    verdicts = [Verdict.APPROVE, Verdict.DENY] * 25
    results = at_once(*(verdict_of(request, *pair) for pair in zip(officers, verdicts, strict=True)))

    refused = [result for result in results if isinstance(result, WorkflowError)]
    assert len(refused) == 49
    assert {refusal.code for refusal in refused} == {"already_decided"}
    decision = ApprovalDecision.objects.get()
    request.refresh_from_db()
    message = Message.objects.get()
    if decision.verdict == Verdict.APPROVE:
        assert (request.state, message.state) == (ApprovalState.EXECUTING, MessageState.RELEASED)
        assert Delivery.objects.count() == 1
    else:
        assert (request.state, message.state) == (ApprovalState.DENIED, MessageState.CANCELLED)
        assert not Delivery.objects.exists()


def test_one_officer_clicking_many_times_decides_once() -> None:
    request = pending()
    olivia = people.olivia()
    results = at_once(*[verdict_of(request, olivia, Verdict.APPROVE)] * 6)
    assert sum(isinstance(result, ApprovalRequest) for result in results) == 1
    assert Delivery.objects.count() == 1


def test_deciding_and_withdrawing_at_once_has_one_outcome() -> None:
    request = pending()
    alice = request.requested_by
    at_once(
        verdict_of(request, people.olivia(), Verdict.APPROVE),
        lambda: approvals.withdraw(approval_id=request.pk, by=alice, reason="Changed my mind"),
    )
    request.refresh_from_db()
    released = Message.objects.get().state == MessageState.RELEASED
    assert released == (request.state == ApprovalState.EXECUTING)
    assert released == Delivery.objects.exists()


def test_two_workers_never_claim_the_same_delivery() -> None:
    alice = people.alice()
    robot = world.robot(alice)
    robot.per_minute = 6000
    robot.save()
    draft = world.message(alice, world.audience(robot, size=3), body="\n\n".join("y" * 3900 for _ in range(4)))
    messages.submit(message_id=draft.pk, by=alice)

    for number, row in enumerate(Delivery.objects.order_by("id")):
        Delivery.objects.filter(pk=row.pk).update(address=f"recipient {number}")  # no order among them
    claims = at_once(*[lambda: ledger.claim(draft.pk)] * 8)
    claimed = [load.rows[0].pk for wave in claims if isinstance(wave, ledger.Wave) for load in wave.loads]
    assert len(claimed) == len(set(claimed)) >= 1
    assert DeliveryAttempt.objects.count() == len(claimed)


def test_the_last_slot_of_a_minute_is_taken_once() -> None:
    alice = people.alice()
    robot = world.robot(alice)
    robot.per_minute = 2
    robot.save()
    draft = world.message(alice, world.audience(robot, size=3), body="\n\n".join("z" * 3900 for _ in range(4)))
    messages.submit(message_id=draft.pk, by=alice)
    for number, row in enumerate(Delivery.objects.order_by("id")):
        Delivery.objects.filter(pk=row.pk).update(address=f"recipient {number}")
    # Whoever finds a row locked leaves it to the other, and comes again.
    claims = [claim for _ in range(3) for claim in at_once(*[lambda: ledger.claim(draft.pk)] * 6)]
    assert sum(isinstance(claim, ledger.Wave) for claim in claims) == 2


def test_two_clocks_start_a_due_instant_once() -> None:

    alice = people.alice()
    flow = world.workflow(alice, world.audience(world.robot(alice)), "http://127.0.0.1:9/feed")
    cadence = Cadence.objects.create(workflow=flow, next_run_at=MONDAY_NINE)
    at_once(*[lambda: runs.start_due(cadence.pk, MONDAY_NINE)] * 6)
    assert Run.objects.count() == 1


def test_two_workers_that_finish_the_last_two_deliveries_finish_the_message() -> None:
    alice = people.alice()
    for number in range(6):
        robot = world.robot(alice, name=f"R{number}")
        draft = world.message(alice, world.audience(robot, name=f"A{number}", size=3))
        message = messages.submit(message_id=draft.pk, by=alice)
        first = Delivery.objects.get(message=message)
        Delivery.objects.create(
            message=message,
            channel=robot,
            address="second",
            recipient="B",
            part=first.part,
            not_before=first.not_before,
        )
        claims = [ledger.claim(message.pk), ledger.claim(message.pk)]

        at_once(*(partial(_finish, claim) for claim in claims if claim))
        message.refresh_from_db()
        assert message.state == MessageState.SENT


def _finish(wave: ledger.Wave) -> None:
    outcomes.finish(wave, [Receipt()])
    delivery.dispatch(wave.message.pk)


def test_the_last_message_of_a_day_is_released_once_under_a_standing_approval() -> None:
    alice, olivia = people.alice(), people.olivia()
    flow = active_workflow(alice)
    decided(asked(flow, alice, a_day=2), olivia)
    drafts = [digest_message(flow) for _ in range(5)]
    at_once(*[partial(messages.submit_digest, draft, requested_by=alice) for draft in drafts])
    states = Message.objects.values_list("state", flat=True)
    assert sorted(states) == [MessageState.PENDING] * 3 + [MessageState.RELEASED] * 2
