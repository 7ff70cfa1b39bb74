"""Many recipients in one call, limits for each of them, repetitions that a receiver recognises, and what goes first."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db.models import Count
from django.utils import timezone

from audit.models import AuditEvent
from compliance_bot.sandbox import Sandbox
from compliance_bot.sandbox.wecom import Fault
from tests import people, world
from workflows.domain.errors import Invalid
from workflows.domain.states import DeliveryState, MessageState
from workflows.models import AccessToken, Audience, Channel, Delivery, DeliveryAttempt, Message
from workflows.services import attachments, clock, delivery, ledger, messages

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture(autouse=True)
def no_gate(set_policy: object) -> None:
    set_policy("security: {actions: {require_approval_for: []}}")  # type: ignore[operator]


def released(author: User, to: Audience, **fields: object) -> Message:
    draft = world.message(author, to)
    Message.objects.filter(pk=draft.pk).update(**fields)
    return messages.submit(message_id=draft.pk, by=author)


def states() -> dict[str, int]:
    counted = Delivery.objects.order_by().values_list("state").annotate(Count("pk"))
    return dict(counted)


class TestMembersOfAnApplication:
    def test_a_thousand_go_in_one_call(self, wecom: Sandbox, alice: User) -> None:
        to = world.members(world.app(alice, wecom.url), *(f"user{number}" for number in range(2500)))
        message = released(alice, to)
        assert delivery.dispatch(message.pk) == 3
        assert states() == {"sent": 2500}
        shown = [member for call in wecom.company.messages() for member in call.shown_to]
        assert len(shown) == len(set(shown)) == 2500
        assert wecom.company.calls == {"gettoken": 1, "message/send": 3}
        message.refresh_from_db()
        assert message.state == MessageState.SENT

    def test_whom_it_did_not_reach_is_written_to_each_row(self, wecom: Sandbox, alice: User) -> None:
        message = released(alice, world.members(world.app(alice, wecom.url), "amy", "gone1", "unlicensed1"))
        delivery.dispatch(message.pk)
        codes = dict(Delivery.objects.values_list("address", "code"))
        assert codes == {"amy": "", "gone1": "invalid_user", "unlicensed1": "unlicensed"}
        assert states() == {"sent": 1, "failed": 2}
        message.refresh_from_db()
        assert message.state == MessageState.PARTLY_SENT

    def test_departments_go_by_hundreds_and_everybody_alone(self, wecom: Sandbox, alice: User) -> None:
        addresses = ["@all", "amy", *(f"party:{number}" for number in range(150)), "tag:1"]
        message = released(alice, world.members(world.app(alice, wecom.url), *addresses))
        delivery.dispatch(message.pk)
        calls = [set(call.shown_to) for call in wecom.company.messages()]
        assert {"@all"} in calls
        assert max(sum(name.startswith("party:") for name in call) for call in calls) == 100
        assert set().union(*calls) == set(addresses)

    def test_an_ambiguous_call_is_repeated_as_it_was_and_shown_once(self, wecom: Sandbox, alice: User) -> None:
        wecom.wecom.plan_faults([Fault("reset_after")])
        message = released(alice, world.members(world.app(alice, wecom.url), "amy", "bob"))
        delivery.dispatch(message.pk)
        assert states() == {"waiting": 2}
        with time_machine.travel(timezone.now() + timedelta(minutes=5), tick=False):
            assert delivery.dispatch(message.pk) == 1
        assert states() == {"sent": 2}
        assert [call.shown_to for call in wecom.company.messages()] == [("amy", "bob"), ()]

    def test_a_call_whose_worker_died_is_repeated_as_it_was(self, wecom: Sandbox, alice: User) -> None:
        message = released(alice, world.members(world.app(alice, wecom.url), *(f"user{n}" for n in range(300))))
        wave = ledger.claim(message.pk)
        assert wave is not None
        with time_machine.travel(timezone.now() + ledger.LEASE, tick=False) as traveller:
            clock.tick()
            assert states() == {"waiting": 300}
            traveller.shift(timedelta(minutes=1))
            again = ledger.claim(message.pk)
        assert again is not None
        assert again.loads[0].parcel == wave.loads[0].parcel

    def test_after_its_window_an_ambiguous_call_waits_for_a_person(self, wecom: Sandbox, alice: User) -> None:
        wecom.wecom.plan_faults([Fault("reset_after")])
        message = released(alice, world.members(world.app(alice, wecom.url), "amy"))
        delivery.dispatch(message.pk)
        Delivery.objects.update(first_tried_at=timezone.now() - timedelta(minutes=31))
        wecom.wecom.plan_faults([Fault("status", status=502)])
        with time_machine.travel(timezone.now() + timedelta(minutes=5), tick=False):
            delivery.dispatch(message.pk)
        assert states() == {"unknown": 1}

    def test_what_one_member_gets_too_much_of_waits_instead_of_being_lost(self, wecom: Sandbox, alice: User) -> None:
        app = world.app(alice, wecom.url)
        sent = [
            released(alice, world.members(app, "amy", name=f"A{number}"), subject=f"News {number}")
            for number in range(31)
        ]
        for message in sent:
            delivery.dispatch(message.pk)
        assert states() == {"sent": 30, "queued": 1}
        assert sum("amy" in call.shown_to for call in wecom.company.messages()) == 30
        last = Delivery.objects.get(state="queued")
        assert last.not_before is not None
        assert timedelta(seconds=30) < last.not_before - timezone.now() < timedelta(seconds=62)


class TestTokens:
    def test_are_shared_and_kept_encrypted(self, wecom: Sandbox, alice: User) -> None:
        app = world.app(alice, wecom.url)
        for number in range(3):
            delivery.dispatch(released(alice, world.members(app, f"user{number}", name=f"A{number}")).pk)
        assert wecom.company.calls["gettoken"] == 1
        stored = bytes(AccessToken.objects.get().value)
        assert stored.startswith(b"gAAAA")

    def test_that_were_revoked_are_renewed_once(self, wecom: Sandbox, alice: User) -> None:
        app = world.app(alice, wecom.url)
        delivery.dispatch(released(alice, world.members(app, "amy", name="A")).pk)
        wecom.company.expire_tokens()
        delivery.dispatch(released(alice, world.members(app, "bob", name="B")).pk)
        assert states() == {"sent": 2}
        assert wecom.company.calls == {"gettoken": 2, "message/send": 3}

    def test_of_a_wrong_secret_are_asked_for_once_and_break_the_channel(self, wecom: Sandbox, alice: User) -> None:
        app = world.app(alice, wecom.url, secret="wrong-secret")
        message = released(alice, world.members(app, "amy", "bob"))
        delivery.dispatch(message.pk)
        delivery.dispatch(message.pk)
        assert wecom.company.calls == {"gettoken": 1}
        assert states() == {"waiting": 2}
        app.refresh_from_db()
        assert "40001" in app.broken_why

    def test_that_another_process_fetches_are_waited_for(self, wecom: Sandbox, alice: User) -> None:
        app = world.app(alice, wecom.url)
        AccessToken.objects.create(channel=app, fetching_until=timezone.now() + timedelta(seconds=20))
        delivery.dispatch(released(alice, world.members(app, "amy")).pk)
        assert wecom.company.calls == {}
        assert states() == {"waiting": 1}


class TestABrokenChannel:
    def broken(self, wecom: Sandbox, alice: User) -> Message:
        wecom.wecom.plan_faults([Fault("errcode", code=93000)])
        to = world.audience(world.robot(alice, wecom.url), size=3)
        draft = world.message(alice, to, body="\n\n".join(f"{number} " + "x" * 3900 for number in range(3)))
        message = messages.submit(message_id=draft.pk, by=alice)
        delivery.dispatch(message.pk)
        return message

    def test_is_tried_with_one_call_and_goes_on_when_it_works(self, wecom: Sandbox, alice: User) -> None:
        message = self.broken(wecom, alice)
        with time_machine.travel(timezone.now() + timedelta(minutes=61), tick=False):
            clock.tick()
            delivery.dispatch(message.pk)
        assert states() == {"sent": 3}
        assert Channel.objects.get().broken_at is None
        assert AuditEvent.objects.filter(what="channel.repaired").count() == 1

    def test_that_is_still_broken_is_left_alone_for_longer(self, wecom: Sandbox, alice: User) -> None:
        message = self.broken(wecom, alice)
        wecom.wecom.plan_faults([Fault("errcode", code=93000)] * 5)
        later = timezone.now() + timedelta(minutes=61)
        with time_machine.travel(later, tick=False):
            delivery.dispatch(message.pk)
            delivery.dispatch(message.pk)
        channel = Channel.objects.get()
        assert DeliveryAttempt.objects.count() == 2
        assert channel.probe_at is not None
        assert channel.probe_at >= later + timedelta(minutes=61)

    def test_is_told_to_the_administrators_once(
        self, wecom: Sandbox, alice: User, django_capture_on_commit_callbacks: object
    ) -> None:
        self.broken(wecom, alice)
        assert AuditEvent.objects.filter(what="channel.broken").count() == 1


class TestWhatGoesFirst:
    def test_an_urgent_message_overtakes_a_mass_send_between_two_calls(self, wecom: Sandbox, alice: User) -> None:
        app = world.app(alice, wecom.url)
        mass = released(alice, world.members(app, *(f"user{number}" for number in range(1200))))
        urgent = released(alice, world.members(app, "chief", name="Chief"), urgent=True)
        delivery.dispatch(mass.pk)
        assert wecom.company.messages()[0].shown_to == ("chief",)
        urgent.refresh_from_db()
        assert urgent.state == MessageState.SENT

    def test_what_is_late_does_not_leave(self, wecom: Sandbox, alice: User) -> None:
        at = timezone.now()
        message = released(
            alice,
            world.members(world.app(alice, wecom.url), "amy"),
            send_at=at + timedelta(minutes=1),
            valid_until=at + timedelta(minutes=5),
        )
        with time_machine.travel(at + timedelta(minutes=6), tick=False):
            clock.tick()
            delivery.dispatch(message.pk)
        assert states() == {DeliveryState.DEAD: 1}
        assert wecom.company.messages() == []
        assert Delivery.objects.get().code == "too_late"
        message.refresh_from_db()
        assert message.state == MessageState.FAILED

    def test_what_would_be_late_is_not_submitted(self, alice: User) -> None:
        with pytest.raises(Invalid, match="too late"):
            released(alice, world.members(world.app(alice), "amy"), valid_until=timezone.now())


def test_a_file_whose_arrival_is_uncertain_is_not_sent_again(wecom: Sandbox, alice: User) -> None:
    """It would be uploaded anew, and WeCom would take it for another message."""
    to = world.members(world.app(alice, wecom.url), "amy")
    draft = world.message(alice, to)
    attachments.attach(message=draft, name="rules.pdf", content=b"%PDF-1.7 rules", by=alice)
    message = messages.submit(message_id=draft.pk, by=alice)
    wecom.wecom.plan_faults([Fault("hang", seconds=0), Fault("reset_after")])
    delivery.dispatch(message.pk)
    assert states() == {"sent": 1, "unknown": 1}
