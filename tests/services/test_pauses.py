"""The kill switch: once a pause is committed nothing it covers is sent, and all else goes on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import time_machine
from django.conf import settings
from django.contrib.auth.models import User
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from audit import story
from audit.models import AuditEvent
from compliance_bot.sandbox import Sandbox, start
from compliance_bot.sandbox.wecom import Fault
from tests import people, world
from tests.services.test_races import at_once
from workflows.channels import Receipt
from workflows.domain.errors import NotPermitted, ReasonRequired, WrongState
from workflows.domain.states import DeliveryState, MessageState, OfferState, RunState, Verdict
from workflows.models import (
    ApprovalRequest,
    Channel,
    Delivery,
    Digest,
    DigestEntry,
    Item,
    Message,
    SendingPause,
)
from workflows.services import approvals, clock, delivery, ledger, messages, outcomes, pauses, runs, settling

pytestmark = pytest.mark.django_db

OTHER = "tests-another-group"


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def olivia() -> User:
    return people.olivia()


def released(author: User, base_url: str, *, name: str = "Robot", parts: int = 1) -> Message:
    """A message on its way to one small group, in so many parts."""
    to = world.audience(world.robot(author, base_url, name=name), name=name, size=3)
    body = "\n\n".join(f"{number} " + "x" * (10 if parts == 1 else 3900) for number in range(parts))
    return messages.submit(message_id=world.message(author, to, subject=name, body=body).pk, by=author)


def states(message: Message) -> list[str]:
    return list(Delivery.objects.filter(message=message).order_by("id").values_list("state", flat=True))


def due() -> set[str]:
    """The messages that the clock would hand to a worker now."""
    rows = Message.objects.filter(state=MessageState.RELEASED, next_attempt_at__lte=timezone.now())
    return set(rows.values_list("subject", flat=True))


def carry_on() -> None:
    """What clock and workers do."""
    clock.tick()
    for message in Message.objects.filter(state=MessageState.RELEASED):
        delivery.dispatch(message.pk)


class TestPausingEverything:
    def test_holds_what_was_released_before_and_what_is_released_after(
        self, wecom: Sandbox, alice: User, olivia: User
    ) -> None:
        released(alice, wecom.url, name="before")
        pauses.pause(by=olivia, reason="Wrong figures")
        released(alice, wecom.url, name="after")
        carry_on()
        assert wecom.wecom.messages() == []

    def test_leaves_the_clock_in_peace(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        message = released(alice, wecom.url)
        pauses.pause(by=olivia, reason="Wrong figures")
        delivery.dispatch(message.pk)
        message.refresh_from_db()
        assert message.next_attempt_at is None

    def test_is_ended_by_resuming_and_everything_is_sent_once(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        held = [released(alice, wecom.url, name=f"held-{number}", parts=2) for number in range(3)]
        paused = pauses.pause(by=olivia, reason="Wrong figures")
        carry_on()
        pauses.resume(pause_id=paused.pk, by=olivia, reason="Figures are right")
        assert due() == {message.subject for message in held}
        carry_on()
        carry_on()
        assert len(wecom.wecom.messages()) == len({message.content for message in wecom.wecom.messages()}) == 6
        assert set(Message.objects.values_list("state", flat=True)) == {MessageState.SENT}

    def test_keeps_a_retry_at_its_time(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        wecom.wecom.plan_faults([Fault("errcode", code=-1)])
        message = released(alice, wecom.url)
        with time_machine.travel(timezone.now(), tick=False):
            delivery.dispatch(message.pk)
            retry_at = Delivery.objects.get().not_before
            paused = pauses.pause(by=olivia, reason="Wrong figures")
            carry_on()
            pauses.resume(pause_id=paused.pk, by=olivia, reason="Right again")
            delivery.dispatch(message.pk)
        message.refresh_from_db()
        assert Delivery.objects.get().not_before == retry_at
        assert message.next_attempt_at is not None

    def test_lets_approvals_go_on(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        pauses.pause(by=olivia, reason="Wrong figures")
        draft = world.message(alice, world.audience(world.robot(alice, wecom.url)))
        messages.submit(message_id=draft.pk, by=alice)
        request = ApprovalRequest.objects.get()
        approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=people.oscar(), reason="Fine")
        assert delivery.dispatch(draft.pk) == 0
        draft.refresh_from_db()
        assert draft.state == MessageState.RELEASED

    def test_lets_collecting_go_on(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        pauses.pause(by=olivia, reason="Wrong figures")
        group = world.audience(world.robot(alice, wecom.url), size=3)
        flow = world.workflow(alice, group, f"{wecom.url}/news/regulator.xml")
        run = runs.run_now(workflow=flow, by=alice, digest_kind="update")
        runs.execute(run.pk)
        run.refresh_from_db()
        assert run.state == RunState.SUCCEEDED
        assert Item.objects.exists()
        carry_on()
        assert wecom.wecom.messages() == []


class TestANarrowerPause:
    def test_of_a_channel_lets_other_channels_go_on(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        here, there = world.robot(alice, wecom.url, name="Here"), world.robot(alice, wecom.url, name="There", key=OTHER)
        to = world.audience(here, size=1)
        to.members.create(channel=there, label="There", size=1)
        message = messages.submit(message_id=world.message(alice, to).pk, by=alice)
        request = ApprovalRequest.objects.get()
        approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=people.oscar(), reason="Fine")
        paused = pauses.pause(by=olivia, reason="Wrong group", target=here)
        carry_on()
        assert [received.key for received in wecom.wecom.messages()] == [OTHER]
        pauses.resume(pause_id=paused.pk, by=olivia, reason="Right group")
        carry_on()
        assert [received.key for received in wecom.wecom.messages()] == [OTHER, world.KEY]
        message.refresh_from_db()
        assert message.state == MessageState.SENT

    def test_of_a_workflow_lets_other_messages_go_on(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        held, other = released(alice, wecom.url, name="held"), released(alice, wecom.url, name="other")
        flow = world.workflow(alice, held.audience)
        Message.objects.filter(pk=held.pk).update(workflow=flow)
        paused = pauses.pause(by=olivia, reason="Wrong source", target=flow)
        carry_on()
        assert (states(held), states(other)) == ([DeliveryState.QUEUED], [DeliveryState.SENT])
        pauses.resume(pause_id=paused.pk, by=olivia, reason="Right source")
        assert due() == {"held"}

    def test_stays_when_a_wider_one_is_lifted(self, wecom: Sandbox, alice: User, olivia: User) -> None:
        message = released(alice, wecom.url)
        pauses.pause(by=olivia, reason="This one", target=message)
        everything = pauses.pause(by=olivia, reason="All")
        pauses.resume(pause_id=everything.pk, by=olivia, reason="Not all")
        carry_on()
        assert states(message) == [DeliveryState.QUEUED]

    def test_is_found_by_whatever_it_covers(self, alice: User, olivia: User) -> None:
        message = released(alice, "http://127.0.0.1:9")
        row, channel = Delivery.objects.get(), Channel.objects.get()
        flow = world.workflow(alice, message.audience)
        targets = (row, message, channel, flow)
        assert [pauses.in_force(target) for target in targets] == [None] * 4
        pauses.pause(by=olivia, reason="C", target=channel)
        assert [str(pauses.in_force(target)) for target in targets] == ["Robot", "None", "Robot", "None"]
        Message.objects.filter(pk=message.pk).update(workflow=flow)
        pauses.pause(by=olivia, reason="W", target=flow)
        assert [str(pauses.in_force(target)) for target in targets] == ["Watch", "Watch", "Robot", "Watch"]


class TestASwitch:
    def test_needs_the_right_and_a_reason(self, alice: User, olivia: User) -> None:
        with pytest.raises(NotPermitted):
            pauses.pause(by=alice, reason="I would like to")
        with pytest.raises(ReasonRequired):
            pauses.pause(by=olivia, reason="  ")
        assert not SendingPause.objects.exists()
        paused = pauses.pause(by=olivia, reason="Wrong figures")
        with pytest.raises(NotPermitted):
            pauses.resume(pause_id=paused.pk, by=alice, reason="I would like to")
        with pytest.raises(ReasonRequired):
            pauses.resume(pause_id=paused.pk, by=olivia, reason="")
        assert pauses.of(None) == paused

    def test_is_turned_once_and_can_be_turned_again(self, olivia: User) -> None:
        first = pauses.pause(by=olivia, reason="Wrong figures")
        with pytest.raises(WrongState, match="paused already"):
            pauses.pause(by=olivia, reason="Wrong figures")
        pauses.resume(pause_id=first.pk, by=olivia, reason="Right")
        with pytest.raises(WrongState, match="not in force"):
            pauses.resume(pause_id=first.pk, by=olivia, reason="Right")
        pauses.pause(by=olivia, reason="Wrong again")
        assert SendingPause.objects.count() == 2

    def test_is_on_the_trail_with_who_and_why(self, olivia: User) -> None:
        paused = pauses.pause(by=olivia, reason="Wrong figures")
        pauses.resume(pause_id=paused.pk, by=olivia, reason="Right")
        told = AuditEvent.objects.filter(what__startswith="sending.").order_by("id")
        assert [(event.what, event.who_label, event.why) for event in told] == [
            ("sending.paused", "olivia", "Wrong figures"),
            ("sending.resumed", "olivia", "Right"),
        ]
        assert told[1].parent_event_id == told[0].event_id


class TestHaltingOneMessage:
    """With parts as deliveries: they leave one after the other, so the halt comes between two of them."""

    @pytest.fixture
    def half(self, wecom: Sandbox, alice: User) -> Message:
        """One of three has left; the next waits for a retry."""
        message = released(alice, wecom.url, parts=3)
        claim = ledger.claim(message.pk)
        assert claim is not None
        outcomes.finish(claim, [Receipt(reply="ok")])
        return message

    @pytest.fixture
    def digest(self, half: Message, alice: User) -> Digest:
        """``half`` carries a digest with one item."""
        flow = world.workflow(alice, half.audience, "http://127.0.0.1:9/feed")
        run = runs.run_now(workflow=flow, by=alice, digest_kind="update")
        digest = Digest.objects.create(
            run=run, workflow=flow, kind="update", content={"entries": []}, created_at=timezone.now()
        )
        item = world.item(flow.sources.get(), "A story", seen_at=timezone.now())
        DigestEntry.objects.create(digest=digest, workflow=flow, item=item, kind="update")
        Message.objects.filter(pk=half.pk).update(digest=digest)
        return digest

    def test_keeps_the_rest_until_it_is_resumed(self, wecom: Sandbox, half: Message, olivia: User) -> None:
        paused = pauses.pause(by=olivia, reason="Typing slip", target=half)
        carry_on()
        assert states(half) == [DeliveryState.SENT, DeliveryState.QUEUED, DeliveryState.QUEUED]
        pauses.resume(pause_id=paused.pk, by=olivia, reason="No slip")
        carry_on()
        assert states(half) == [DeliveryState.SENT] * 3
        assert len(wecom.wecom.messages()) == 2

    def test_cancelling_the_rest_ends_the_message_and_its_pause(
        self, half: Message, digest: Digest, olivia: User
    ) -> None:
        pauses.pause(by=olivia, reason="Typing slip", target=half)
        assert delivery.cancel_rest(message_id=half.pk, by=olivia, reason="Will be written anew") == 2
        half.refresh_from_db()
        assert states(half) == [DeliveryState.SENT, DeliveryState.CANCELLED, DeliveryState.CANCELLED]
        assert half.state == MessageState.PARTLY_SENT
        assert digest.entries.get().state == OfferState.SETTLED
        assert not pauses.active().exists()
        event = AuditEvent.objects.get(what="delivery.cancelled")
        assert (event.who_label, event.why, event.facts) == ("olivia", "Will be written anew", {"cancelled": 2})

    def test_that_nobody_received_is_cancelled_and_its_items_are_free_again(
        self, half: Message, digest: Digest, olivia: User
    ) -> None:
        Delivery.objects.filter(state=DeliveryState.SENT).update(state=DeliveryState.FAILED)
        pauses.pause(by=olivia, reason="Typing slip", target=half)
        delivery.cancel_rest(message_id=half.pk, by=olivia, reason="Will be written anew")
        half.refresh_from_db()
        assert half.state == MessageState.CANCELLED
        assert digest.entries.get().state == OfferState.RELEASED

    def test_what_may_have_arrived_stays_open_and_the_message_halted(self, half: Message, olivia: User) -> None:
        Delivery.objects.filter(state=DeliveryState.SENT).update(state=DeliveryState.UNKNOWN)
        pauses.pause(by=olivia, reason="Typing slip", target=half)
        delivery.cancel_rest(message_id=half.pk, by=olivia, reason="Will be written anew")
        half.refresh_from_db()
        assert half.state == MessageState.RELEASED
        unknown = Delivery.objects.get(state=DeliveryState.UNKNOWN)
        settling.send_again([unknown.pk], by=olivia, reason="Not in the group")
        assert delivery.dispatch(half.pk) == 0
        delivery.cancel_rest(message_id=half.pk, by=olivia, reason="Will be written anew")
        half.refresh_from_db()
        assert half.state == MessageState.CANCELLED

    def test_takes_the_right_a_reason_and_a_halt_to_cancel_the_rest(
        self, half: Message, alice: User, olivia: User
    ) -> None:
        with pytest.raises(WrongState, match="halted"):
            delivery.cancel_rest(message_id=half.pk, by=olivia, reason="Slip")
        pauses.pause(by=olivia, reason="Typing slip", target=half)
        with pytest.raises(NotPermitted):
            delivery.cancel_rest(message_id=half.pk, by=alice, reason="Slip")
        with pytest.raises(ReasonRequired):
            delivery.cancel_rest(message_id=half.pk, by=olivia, reason="")
        assert states(half) == [DeliveryState.SENT, DeliveryState.QUEUED, DeliveryState.QUEUED]

    def test_is_only_for_a_message_on_its_way(self, alice: User, olivia: User) -> None:
        draft = world.message(alice, world.audience(world.robot(alice)))
        with pytest.raises(WrongState, match="on its way"):
            pauses.pause(by=olivia, reason="Slip", target=draft)

    def test_belongs_to_the_story_of_the_message(self, half: Message, olivia: User) -> None:
        pauses.pause(by=olivia, reason="Typing slip", target=half)
        delivery.cancel_rest(message_id=half.pk, by=olivia, reason="Slip")
        release = AuditEvent.objects.get(what="message.released")
        told = {event.what for event in story.tell(release.request_id).events}
        assert told >= {"message.released", "sending.paused", "delivery.cancelled", "message.finished"}


@pytest.mark.usefixtures("committed")
class TestWithOtherConnections:
    @pytest.fixture
    def halting(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[User], Sandbox]]:
        """A robot in whose second call, before it is answered, somebody halts that message."""
        with ExitStack() as running:

            def started(by: User) -> Sandbox:
                calls = count(1)

                def arrives() -> float:
                    if next(calls) == 2:
                        pauses.pause(by=by, reason="Halt", target=Message.objects.get())
                        connection.close()
                    return 0.0

                sandbox = start(0, tmp_path / "halting", clock=arrives)
                running.callback(sandbox.stop)
                monkeypatch.setattr(settings, "EGRESS_ALLOW", [sandbox.url.removeprefix("http://")])
                return sandbox

            yield started

    def test_a_halt_in_the_midst_of_a_call_lets_it_end_and_no_other_begin(
        self, halting: Callable[[User], Sandbox]
    ) -> None:
        alice, olivia = people.alice(), people.olivia()
        sandbox = halting(olivia)
        message = released(alice, sandbox.url, parts=5)
        assert delivery.dispatch(message.pk) == 2
        assert states(message) == [DeliveryState.SENT] * 2 + [DeliveryState.QUEUED] * 3
        assert len(sandbox.wecom.messages()) == 2
        pauses.resume(pause_id=SendingPause.objects.get().pk, by=olivia, reason="Go on")
        assert delivery.dispatch(message.pk) == 3
        assert states(message) == [DeliveryState.SENT] * 5

    def test_no_claim_is_committed_after_the_pause(self) -> None:
        """Whichever claims were faster, none comes after the pause: it waits for those under way, and they for it."""
        alice, olivia = people.alice(), people.olivia()
        message = released(alice, "http://127.0.0.1:9", parts=6)
        for number, row in enumerate(Delivery.objects.order_by("id")):
            Delivery.objects.filter(pk=row.pk).update(address=f"{number}")  # no order among them
        at_once(*[lambda: ledger.claim(message.pk)] * 3, lambda: pauses.pause(by=olivia, reason="Now"))
        paused = AuditEvent.objects.get(what="sending.paused")
        assert not AuditEvent.objects.filter(what="delivery.attempted", at__gt=paused.at).exists()
        assert ledger.claim(message.pk) is None

    def test_a_claim_under_way_makes_the_pause_wait(self) -> None:
        if connection.vendor != "postgresql":
            pytest.skip("on SQLite every transaction that writes is alone")
        olivia = people.olivia()
        with transaction.atomic():
            pauses.keep_switch()
            (refused,) = at_once(lambda: _pause_without_patience(olivia))
        assert isinstance(refused, OperationalError)
        pauses.pause(by=olivia, reason="Now")

    def test_many_at_once_pause_once(self) -> None:
        olivia = people.olivia()
        results = at_once(*[lambda: pauses.pause(by=olivia, reason="Now")] * 6)
        assert sum(isinstance(result, SendingPause) for result in results) == 1
        assert {str(result) for result in results if isinstance(result, WrongState)} == {"This is paused already."}

    def test_resuming_while_workers_look_loses_nothing(self) -> None:
        alice, olivia = people.alice(), people.olivia()
        held = [released(alice, "http://127.0.0.1:9", name=f"R{number}") for number in range(4)]
        paused = pauses.pause(by=olivia, reason="Now")
        looks = [partial(delivery._leave, message.pk) for message in held]
        at_once(*looks, lambda: pauses.resume(pause_id=paused.pk, by=olivia, reason="Go on"))
        assert not Message.objects.filter(next_attempt_at=None).exists()


def _pause_without_patience(by: User) -> object:
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '200ms'")
    try:
        return pauses.pause(by=by, reason="Now")
    except OperationalError as error:
        return error
