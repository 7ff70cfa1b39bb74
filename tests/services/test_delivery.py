"""Against a real WeCom stand-in over a real socket: everything arrives once, or somebody knows."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils import timezone

from audit.models import AuditEvent
from compliance_bot.sandbox import Sandbox
from compliance_bot.sandbox.wecom import Fault
from tests import people, world
from workflows.domain.errors import NotPermitted, ReasonRequired, WrongState
from workflows.domain.retry import MAX_ATTEMPTS
from workflows.domain.states import DeliveryState, MessageState
from workflows.models import Channel, Delivery, DeliveryAttempt, Message, SecretRef
from workflows.services import clock, delivery, ledger, messages, outcomes, secrets, settling

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


def released(author: User, base_url: str, *, blocks: int = 1) -> Message:
    """A message on its way, of about ``blocks`` parts."""
    to = world.audience(world.robot(author, base_url), size=3)
    body = "\n\n".join(f"{number} " + "x" * (10 if blocks == 1 else 3900) for number in range(blocks))
    draft = world.message(author, to, body=body)
    return messages.submit(message_id=draft.pk, by=author)


def states() -> list[str]:
    return list(Delivery.objects.order_by("id").values_list("state", flat=True))


def due_again() -> QuerySet[Delivery]:
    return Delivery.objects.filter(state="waiting")


def test_a_message_arrives_and_is_sent(wecom: Sandbox, alice: User) -> None:
    message = released(alice, wecom.url)
    delivery.dispatch(message.pk)
    message.refresh_from_db()
    assert message.state == MessageState.SENT
    (received,) = wecom.wecom.messages()
    assert received.key == world.KEY
    assert "Quarterly reminder" in received.content


def test_what_arrives_is_byte_for_byte_what_was_kept(wecom: Sandbox, alice: User) -> None:
    message = released(alice, wecom.url, blocks=3)
    delivery.dispatch(message.pk)
    kept = [row.part.text for row in Delivery.objects.select_related("part").order_by("id")]
    assert [received.content for received in wecom.wecom.messages()] == kept
    assert len(kept) == 3


def test_dispatching_again_sends_nothing_twice(wecom: Sandbox, alice: User) -> None:
    message = released(alice, wecom.url)
    assert delivery.dispatch(message.pk) == 1
    assert delivery.dispatch(message.pk) == 0
    assert len(wecom.wecom.messages()) == 1


def test_http_200_is_not_success(wecom: Sandbox, alice: User) -> None:
    wecom.wecom.plan_faults([Fault("errcode", code=40058)])
    message = released(alice, wecom.url)
    delivery.dispatch(message.pk)
    assert states() == [DeliveryState.FAILED]
    message.refresh_from_db()
    assert message.state == MessageState.FAILED
    assert Delivery.objects.get().code == "40058"


def test_a_busy_server_is_tried_again_later(wecom: Sandbox, alice: User) -> None:
    wecom.wecom.plan_faults([Fault("errcode", code=-1)])
    message = released(alice, wecom.url)
    delivery.dispatch(message.pk)
    (waiting,) = due_again()
    assert waiting.not_before is not None
    with time_machine.travel(waiting.not_before, tick=False):
        delivery.dispatch(message.pk)
    assert states() == [DeliveryState.SENT]
    assert [row.outcome for row in DeliveryAttempt.objects.all()] == ["waiting", "sent"]


def test_tries_are_bounded(wecom: Sandbox, alice: User) -> None:
    wecom.wecom.plan_faults([Fault("errcode", code=-1)] * (MAX_ATTEMPTS + 1))
    message = released(alice, wecom.url)
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        for _ in range(MAX_ATTEMPTS):
            delivery.dispatch(message.pk)
            traveller.shift(timedelta(minutes=10))
    assert states() == [DeliveryState.DEAD]
    assert DeliveryAttempt.objects.count() == MAX_ATTEMPTS


def test_a_frequency_limit_quiets_the_whole_channel(wecom: Sandbox, alice: User) -> None:
    wecom.wecom.plan_faults([Fault("errcode", code=45009)])
    message = released(alice, wecom.url, blocks=3)
    before = timezone.now()
    assert delivery.dispatch(message.pk) == 1
    assert wecom.wecom.messages() == []
    earliest = min(row.not_before for row in Delivery.objects.all() if row.not_before)
    assert earliest >= before + timedelta(seconds=60)


def test_a_refused_connection_is_certainly_not_delivered(alice: User) -> None:
    message = released(alice, "http://127.0.0.1:9")
    delivery.dispatch(message.pk)
    assert states() == [DeliveryState.WAITING]


@pytest.mark.parametrize("fault", [Fault("reset_after"), Fault("status", status=502)])
def test_an_ambiguous_failure_is_unknown_and_never_resent_by_itself(wecom: Sandbox, alice: User, fault: Fault) -> None:
    wecom.wecom.plan_faults([fault])
    message = released(alice, wecom.url)
    delivery.dispatch(message.pk)
    assert states() == [DeliveryState.UNKNOWN]
    with time_machine.travel(timezone.now() + timedelta(days=2), tick=False):
        clock.tick()
        delivery.dispatch(message.pk)
    assert states() == [DeliveryState.UNKNOWN]
    message.refresh_from_db()
    assert message.state == MessageState.RELEASED


def test_a_removed_robot_puts_the_channel_out_of_order(wecom: Sandbox, alice: User) -> None:
    wecom.wecom.plan_faults([Fault("errcode", code=93000)])
    message = released(alice, wecom.url, blocks=2)
    delivery.dispatch(message.pk)
    channel = Channel.objects.get()
    assert channel.broken_at is not None
    assert states() == [DeliveryState.WAITING, DeliveryState.QUEUED]  # held, not lost
    assert AuditEvent.objects.filter(what="channel.broken").count() == 1
    delivery.repair(channel=channel, by=alice, reason="New robot")
    with time_machine.travel(timezone.now() + timedelta(minutes=5), tick=False):
        clock.tick()
        delivery.dispatch(message.pk)
    assert states() == [DeliveryState.SENT, DeliveryState.SENT]


def test_parts_wait_for_the_part_before_them(wecom: Sandbox, alice: User) -> None:
    wecom.wecom.plan_faults([Fault("errcode", code=-1)])
    message = released(alice, wecom.url, blocks=3)
    delivery.dispatch(message.pk)
    assert states() == [DeliveryState.WAITING, DeliveryState.QUEUED, DeliveryState.QUEUED]
    with time_machine.travel(timezone.now() + timedelta(minutes=5), tick=False):
        delivery.dispatch(message.pk)
    contents = [received.content for received in wecom.wecom.messages()]
    assert ["(1/3)" in contents[0], "(2/3)" in contents[1], "(3/3)" in contents[2]] == [True, True, True]


def test_a_robot_never_gets_more_than_its_pace_in_any_minute(wecom: Sandbox, alice: User) -> None:
    message = released(alice, wecom.url)
    part = Delivery.objects.get().part
    Delivery.objects.bulk_create(
        Delivery(
            message=message,
            channel=Channel.objects.get(),
            channel_fingerprint=Delivery.objects.get().channel_fingerprint,
            address=f"{number}",
            recipient=f"{number}",
            part=part,
            not_before=timezone.now(),
        )
        for number in range(49)
    )
    calls = []
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        for _ in range(190):
            calls.append(delivery.dispatch(message.pk))
            traveller.shift(timedelta(seconds=1))
    assert sum(calls) == 50
    assert max(sum(calls[start : start + 60]) for start in range(len(calls))) == 20
    # Three windows of 61 s are enough for 50 messages: the allowance is used.
    assert sum(calls[:123]) == 50


def test_nothing_leaves_while_the_gate_is_shut(wecom: Sandbox, alice: User) -> None:
    message = released(alice, wecom.url)
    Message.objects.update(needs_approval=True)
    assert delivery.dispatch(message.pk) == 0
    Message.objects.update(needs_approval=False, state=MessageState.PENDING)
    assert delivery.dispatch(message.pk) == 0
    assert wecom.wecom.messages() == []


def test_a_channel_that_was_changed_after_the_release_sends_nothing(wecom: Sandbox, alice: User) -> None:
    message = released(alice, wecom.url)
    secrets.store(secret=SecretRef.objects.get(), value="another-groups-key", by=alice)
    delivery.dispatch(message.pk)
    assert wecom.wecom.messages() == []
    assert Delivery.objects.get().code == "channel_changed"


def give_up_the_call() -> None:
    later = timezone.now() + ledger.LEASE
    outcomes.give_up(outcomes.abandoned(later).get(), later)


class TestAWorkerThatVanishes:
    @pytest.fixture(autouse=True)
    def _setup(self, wecom: Sandbox, alice: User) -> None:
        self.message = released(alice, wecom.url)
        self.claim = ledger.claim(self.message.pk)
        assert self.claim is not None

    def test_leaves_an_unknown_once_its_lease_is_over(self) -> None:
        assert not outcomes.abandoned(timezone.now())
        give_up_the_call()
        assert states() == [DeliveryState.UNKNOWN]
        assert Delivery.objects.get().code == "worker_lost"

    def test_may_still_report_a_certain_answer_late(self) -> None:
        from workflows.channels import Receipt

        give_up_the_call()
        assert self.claim is not None
        outcomes.finish(self.claim, [Receipt(reply="ok")])
        assert states() == [DeliveryState.SENT]

    def test_cannot_overwrite_what_a_person_settled(self) -> None:
        from workflows.channels import Rejected

        give_up_the_call()
        settling.send_again([Delivery.objects.get().pk], by=people.olivia(), reason="Looked")
        assert self.claim is not None
        outcomes.finish(self.claim, [Rejected("late", "Too late.")])
        assert states() == [DeliveryState.QUEUED]


class TestSettling:
    @pytest.fixture(autouse=True)
    def _setup(self, wecom: Sandbox, alice: User) -> None:
        wecom.wecom.plan_faults([Fault("reset_after")])
        self.message = released(alice, wecom.url)
        delivery.dispatch(self.message.pk)
        self.row = Delivery.objects.get()

    def test_it_arrived_finishes_the_message(self) -> None:
        settling.arrived([self.row.pk], by=people.olivia(), reason="Seen in the group")
        self.message.refresh_from_db()
        assert self.message.state == MessageState.SENT
        event = AuditEvent.objects.get(what="delivery.settled")
        assert (event.who_label, event.why) == ("olivia", "Seen in the group")

    def test_send_again_sends_once_more(self, wecom: Sandbox) -> None:
        settling.send_again([self.row.pk], by=people.olivia(), reason="Not in the group")
        delivery.dispatch(self.message.pk)
        assert states() == [DeliveryState.SENT]
        assert len(wecom.wecom.messages()) == 2

    def test_needs_the_right_and_a_reason(self, alice: User) -> None:
        with pytest.raises(NotPermitted):
            settling.arrived([self.row.pk], by=alice, reason="Because")
        with pytest.raises(ReasonRequired):
            settling.arrived([self.row.pk], by=people.olivia(), reason=" ")

    def test_happens_once(self) -> None:
        olivia = people.olivia()
        settling.arrived([self.row.pk], by=olivia, reason="Seen")
        with pytest.raises(WrongState):
            settling.send_again([self.row.pk], by=olivia, reason="Changed my mind")


def test_the_robots_key_is_nowhere_in_the_database(wecom: Sandbox, alice: User) -> None:
    wecom.wecom.plan_faults([Fault("status", status=502)])
    message = released(alice, wecom.url)
    delivery.dispatch(message.pk)
    texts = [event.canon for event in AuditEvent.objects.all()]
    texts += [row.detail for row in Delivery.objects.all()] + [row.detail for row in DeliveryAttempt.objects.all()]
    assert texts
    assert not [text for text in texts if world.KEY in text]
