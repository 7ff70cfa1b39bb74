"""Legal holds: one rule in four places, placed by one person, released by two."""

import json
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit import context, holds
from audit.models import AuditEvent, AuditHold
from audit.recorder import record
from audit.triggers import _HELD
from audit.vocabulary import AccessEvent
from tests import people

pytestmark = pytest.mark.django_db

REQUESTS = [uuid.UUID(int=number) for number in (1, 2)]


def hold(**criteria: object) -> AuditHold:
    facts = {"reason": "Case 7", "owner": "Legal", "placed_by": "olivia", "placed_at": timezone.now()}
    return AuditHold.objects.create(**facts, **criteria)


def as_the_trigger_sees_it() -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT e.id FROM audit_auditevent e WHERE {_HELD.format(e='e')}")  # noqa: S608
        return {pk for (pk,) in cursor.fetchall()}


def keys(events: object) -> set[int]:
    return set(events.values_list("pk", flat=True))  # type: ignore[attr-defined]


people_named = st.sampled_from(["", "alice", "olivia", "Alice"])
criteria = st.fixed_dictionaries(
    {},
    optional={
        "who": people_named,
        "target": st.sampled_from(["auth.user:", "auth.user:1", "auth.group:1"]),
        "request_id": st.sampled_from(REQUESTS),
        "starts_at": st.integers(-3, 3),
        "ends_at": st.integers(-3, 3),
    },
).filter(lambda named: named and named != {"who": ""})


@given(st.lists(criteria, max_size=3), st.lists(criteria, max_size=1))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_everywhere_the_same_events_are_on_hold(active: list[dict[str, object]], done: list[dict[str, object]]) -> None:
    with transaction.atomic():
        start = timezone.now()
        for who, behalf, request in [("alice", "", 0), ("olivia", "alice", 0), ("", "", 1)]:
            cause = context.Cause(
                lambda who=who: context.Actor("user", "1", who),  # type: ignore[misc]
                request_id=REQUESTS[request],
                on_behalf_of=behalf,
            )
            for model in (User(pk=1, username="u"), User(pk=2, username="v"), None):
                with context.caused_by(cause):
                    record(AccessEvent.DENIED, target=model)
        times = list(AuditEvent.objects.filter(at__gte=start).order_by("at").values_list("at", flat=True))
        middle = times[len(times) // 2]

        def placed(named: dict[str, object], **release: object) -> AuditHold:
            facts = dict(named)
            kind, pk = str(facts.pop("target", ":")).split(":")
            for edge in {"starts_at", "ends_at"} & set(facts):
                facts[edge] = times[times.index(middle) + int(str(facts[edge]))]
            return hold(target_type=kind, target_id=pk, **facts, **release)

        rows = [placed(named) for named in active]
        for named in done:
            by = {"release_asked_by": "a", "release_asked_by_pk": 1, "released_by": "b", "released_by_pk": 2}
            placed(named, **by, release_reason="r", released_at=start)
        held = keys(holds.held(AuditEvent.objects.all()))
        assert held == as_the_trigger_sees_it()
        assert held == {pk for row in rows for pk in keys(holds.covered(row))}
        told = {event.pk: event for event in AuditEvent.objects.all()}
        assert held == {
            pk for pk, event in told.items() if any(holds.matches(row, json.loads(event.canon)) for row in rows)
        }
        assert keys(holds.not_held(AuditEvent.objects.all())) == set(told) - held
        transaction.set_rollback(True)


class TestReleasing:
    @pytest.fixture(autouse=True)
    def _people(self) -> None:
        self.olivia, self.oscar = people.olivia(), people.oscar()
        self.hold = holds.place(AuditHold(who="alice", reason="Case 7", owner="Legal"), self.olivia)

    def test_two_persons_release_and_all_of_it_is_on_the_trail(self) -> None:
        holds.ask_release(self.hold.pk, self.olivia, "Closed")
        holds.confirm_release(self.hold.pk, self.oscar)
        self.hold.refresh_from_db()
        assert (self.hold.release_asked_by, self.hold.released_by) == ("olivia", "oscar")
        events = AuditEvent.objects.filter(what__startswith="trail.hold").order_by("pk")
        assert [(event.what, event.who_label, event.why) for event in events] == [
            ("trail.hold_placed", "olivia", "Case 7"),
            ("trail.hold_release_asked", "olivia", "Closed"),
            ("trail.hold_released", "oscar", "Closed"),
        ]
        assert events[0].facts == {"who": "alice", "owner": "Legal"}

    def test_the_asker_cannot_confirm(self) -> None:
        holds.ask_release(self.hold.pk, self.olivia, "Closed")
        with pytest.raises(holds.HoldRefused, match="Another person"):
            holds.confirm_release(self.hold.pk, self.olivia)
        released = {"released_by": "somebody", "released_by_pk": self.olivia.pk, "released_at": timezone.now()}
        with pytest.raises(DatabaseError), transaction.atomic():
            AuditHold.objects.filter(pk=self.hold.pk).update(**released)

    def test_nor_under_another_name(self) -> None:
        holds.ask_release(self.hold.pk, self.olivia, "Closed")
        self.olivia.username = "somebody"
        self.olivia.save()
        with pytest.raises(holds.HoldRefused, match="Another person"):
            holds.confirm_release(self.hold.pk, self.olivia)

    @pytest.mark.usefixtures("committed")
    def test_an_asker_who_confirms_alone_is_on_the_trail_although_nothing_else_is(self) -> None:
        holds.ask_release(self.hold.pk, self.olivia, "Closed")
        with pytest.raises(holds.HoldRefused, match="Another person"):
            holds.confirm_release(self.hold.pk, self.olivia)
        event = AuditEvent.objects.get(what="trail.hold_release_refused")
        assert (event.who_label, event.target_id, event.outcome) == ("olivia", str(self.hold.pk), "refused")
        assert event.why == "Another person has to confirm the release that you asked for."
        assert event.retention_class == "decision"
        self.hold.refresh_from_db()
        assert self.hold.released_at is None

    def test_each_other_refusal_is_on_the_trail_too(self) -> None:
        nora = people.nora()
        calls: list[Callable[[], object]] = [
            lambda: holds.ask_release(self.hold.pk, nora, "Closed"),
            lambda: holds.confirm_release(self.hold.pk, nora),
            lambda: holds.confirm_release(self.hold.pk, self.oscar),
        ]
        for call in calls:
            with pytest.raises(holds.HoldRefused):
                call()
        events = AuditEvent.objects.filter(what="trail.hold_release_refused", target_id=str(self.hold.pk))
        assert [event.who_label for event in events.order_by("pk")] == ["nora", "nora", "oscar"]

    def test_nobody_confirms_what_nobody_asked_for(self) -> None:
        with pytest.raises(holds.HoldRefused, match="not asked for"):
            holds.confirm_release(self.hold.pk, self.oscar)

    def test_it_is_asked_once_and_with_a_reason(self) -> None:
        with pytest.raises(holds.HoldRefused, match="Say why"):
            holds.ask_release(self.hold.pk, self.olivia, "  ")
        holds.ask_release(self.hold.pk, self.olivia, "Closed")
        with pytest.raises(holds.HoldRefused, match="already"):
            holds.ask_release(self.hold.pk, self.oscar, "Me too")

    def test_whoever_has_no_right_is_refused(self) -> None:
        nora = people.nora()
        calls: list[Callable[[], object]] = [
            lambda: holds.place(AuditHold(who="alice", reason="R", owner="O"), nora),
            lambda: holds.ask_release(self.hold.pk, nora, "R"),
            lambda: holds.confirm_release(self.hold.pk, nora),
        ]
        for call in calls:
            with pytest.raises(holds.HoldRefused, match="Your role"):
                call()

    @pytest.mark.parametrize("change", [{"who": "bob"}, {"reason": "Another"}, {"target_type": "auth.user"}])
    def test_what_it_says_never_changes(self, change: dict[str, str]) -> None:
        with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
            AuditHold.objects.filter(pk=self.hold.pk).update(**change)

    def test_it_is_never_deleted(self) -> None:
        with pytest.raises(DatabaseError, match="nothing is removed"), transaction.atomic():
            self.hold.delete()


class TestShield:
    @pytest.mark.parametrize(
        ("named", "row", "kept"),
        [
            ({"target_type": "a.b"}, ("a.b", 1), True),
            ({"target_type": "a.b", "target_id": "1"}, ("a.b", 1), True),
            ({"target_type": "a.b", "target_id": "2"}, ("a.b", 1), False),
            ({"target_type": "a.c"}, ("a.b", 1), False),
            ({"request_id": REQUESTS[0]}, ("a.b", 1, REQUESTS[0]), True),
            ({"request_id": REQUESTS[0]}, ("a.b", 1, REQUESTS[1]), False),
            ({"request_id": REQUESTS[0]}, ("a.b", 1), False),
            ({"request_id": REQUESTS[0], "target_type": "a.b"}, ("a.b", 1), True),
            ({"who": "alice"}, ("a.b", 1), False),
        ],
    )
    def test_it_protects_what_a_hold_names(self, named: dict[str, object], row: tuple[str, int], *, kept: bool) -> None:
        hold(**named)
        assert holds.shield().protects(*row) is kept


class TestThePages:
    @pytest.fixture(autouse=True)
    def _signed_in(self) -> None:
        self.olivia, self.oscar = people.olivia(), people.oscar()

    def client(self, user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    def add(self, **form: str) -> str:
        url = reverse("admin:audit_audithold_add")
        return self.client(self.olivia).post(url, form, follow=True).content.decode()

    def page(self, user: User) -> str:
        url = reverse("admin:audit_audithold_change", args=[AuditHold.objects.get().pk])
        return self.client(user).get(url).content.decode()

    def test_one_is_placed_shown_and_released_by_two(self) -> None:
        self.add(reason="Case 7", owner="Legal", target_type="auth.user", target_id=str(self.oscar.pk))
        placed = AuditHold.objects.get()
        assert placed.placed_by == "olivia"
        listed = self.client(self.oscar).get(reverse("admin:audit_audithold_changelist")).content.decode()
        assert "In force" in listed
        assert "Ask for release" in self.page(self.olivia)
        ask, confirm = (reverse(f"admin:audit_audithold_{name}", args=[placed.pk]) for name in ("ask", "confirm"))
        self.client(self.olivia).post(ask, {"reason": "Closed"})
        assert "another person has to confirm" in self.page(self.olivia)
        assert "Confirm release" not in self.page(self.olivia)
        self.client(self.olivia).post(confirm)
        placed.refresh_from_db()
        assert placed.released_at is None
        assert "Confirm release" in self.page(self.oscar)
        assert self.client(self.oscar).get(confirm).status_code == 405
        self.client(self.oscar).post(confirm)
        placed.refresh_from_db()
        assert placed.released_by == "oscar"
        assert "Confirm release" not in self.page(self.oscar)

    @pytest.mark.parametrize(
        ("form", "said"),
        [
            ({}, "Name at least one"),
            ({"target_id": "7"}, "needs its kind"),
            ({"target_type": "no.kind"}, "is not one of the available choices"),
            ({"request_id": "x"}, "valid UUID"),
            (
                {"starts_at_0": "2026-02-02", "starts_at_1": "10:00", "ends_at_0": "2026-02-01", "ends_at_1": "10:00"},
                "The end lies before the beginning",
            ),
        ],
    )
    def test_what_is_wrong_is_said(self, form: dict[str, str], said: str) -> None:
        html = self.add(reason="Case 7", owner="Legal", **form)
        assert said in html
        assert "Constraint" not in html
        assert not AuditHold.objects.exists()

    def ask(self, reason: str) -> str:
        url = reverse("admin:audit_audithold_ask", args=[AuditHold.objects.get().pk])
        return self.client(self.olivia).post(url, {"reason": reason}, follow=True).content.decode()

    @pytest.mark.parametrize("reason", ["x" * 501, "长" * 501, "x" * 9_000_000, "a\r\n" * 260])
    def test_a_reason_for_release_that_is_too_long_is_told_and_not_cut(self, reason: str) -> None:
        placed = hold(who="alice")
        assert "The reason is longer than 500 characters. Shorten it." in self.ask(reason)
        placed.refresh_from_db()
        assert placed.release_asked_by == ""

    def test_a_reason_for_release_with_control_characters_is_kept_readable(self) -> None:
        placed = hold(who="alice")
        assert "Asked. Another person has to confirm." in self.ask("Clo\x00sed\r\nby court")
        placed.refresh_from_db()
        assert placed.release_reason == "Closed\nby court"

    @pytest.mark.parametrize("reason", ["\x00", " \r\n", ""])
    def test_no_reason_for_release_is_told(self, reason: str) -> None:
        hold(who="alice")
        assert "Say why it may be released" in self.ask(reason)

    @pytest.mark.parametrize("field", ["reason", "owner", "who", "target_id", "request_id", "starts_at_0"])
    @pytest.mark.parametrize("text", ["a\x00b", "x" * 9_000_000])
    def test_no_field_takes_what_the_database_cannot(self, field: str, text: str) -> None:
        form = {"reason": "Case 7", "owner": "Legal", "who": "alice", "target_type": "auth.user", field: text}
        assert 'class="errorlist"' in self.add(**form)
        assert not AuditHold.objects.exists()

    def test_what_people_wrote_cannot_turn_round_what_stands_beside_it(self) -> None:
        hold(who="‮ecila")
        assert "<bdi>‮ecila</bdi>" in self.page(self.oscar)

    def test_how_many_events_it_covers_is_shown(self) -> None:
        placed = hold(who="olivia", starts_at=timezone.now() + timedelta(days=1))
        html = self.page(self.oscar)
        assert "it covers: 0" in html
        assert placed.reason in html

    def test_who_may_not_look_sees_nothing(self) -> None:
        hold(who="olivia")
        url = reverse("admin:audit_audithold_change", args=[AuditHold.objects.get().pk])
        assert self.client(people.nora()).get(url).status_code in {403, 404}

    def test_grants_can_be_looked_at(self) -> None:
        assert self.client(self.olivia).get(reverse("admin:audit_auditpurgegrant_changelist")).status_code == 200


def test_who_asked_for_the_release_cannot_confirm_it_and_the_trail_tells() -> None:
    olivia = people.olivia()
    held = hold(who="alice")
    holds.ask_release(held.pk, olivia, "The case is closed")
    with pytest.raises(holds.HoldRefused):
        holds.confirm_release(held.pk, olivia)
    event = AuditEvent.objects.get(what="trail.hold_release_refused")
    assert (event.who_label, event.outcome, event.target_id) == ("olivia", "refused", str(held.pk))


@pytest.mark.parametrize("reason", ["x" * 501, " ", "\x00"])
def test_a_reason_that_cannot_be_kept_is_refused_by_name(reason: str) -> None:
    with pytest.raises(holds.HoldRefused) as refusal:
        holds.ask_release(hold(who="alice").pk, people.olivia(), reason)
    assert refusal.value.field == "reason"
