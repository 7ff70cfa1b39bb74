"""Personal details are erased on request; the events stay, and stay proved."""

from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from audit import retention, sealing, triggers
from audit.models import AuditEvent, AuditHold, AuditPayload
from audit.recorder import record
from audit.verification import Tally, verify
from audit.vocabulary import AccessEvent
from tests import people

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann() -> User:
    return people.person("ann")


def told(about: User, *, days_ago: int = 0, phone: str = "13800000000") -> AuditEvent:
    with time_machine.travel(timezone.now() - timedelta(days=days_ago)), transaction.atomic():
        event = record(AccessEvent.DENIED, target=about, erasable={"phone": phone})
        sealing.sweep(timezone.now())
    return event


def erase(*arguments: str) -> str:
    said = StringIO()
    call_command("audit_erase", *arguments, "--reason", "She asked for it", stdout=said)
    return said.getvalue()


def details(*events: AuditEvent) -> int:
    return AuditPayload.objects.filter(event_pk__in=[event.pk for event in events]).count()


def hold(**criteria: object) -> AuditHold:
    facts = {"reason": "Case 7", "owner": "Legal", "placed_by": "olivia", "placed_at": timezone.now()}
    return AuditHold.objects.create(**facts, **criteria)


def test_all_about_one_object_are_erased_and_still_proved(ann: User) -> None:
    one, other, stranger = told(ann), told(ann), told(people.nora())
    before = Tally()
    assert list(verify(timezone.now(), before)) == []
    assert "details of" in erase(f"auth.user:{ann.pk}")
    assert details(one, other) == 0
    assert details(stranger) == 1
    sealing.sweep(timezone.now())
    after = Tally()
    assert list(verify(timezone.now(), after)) == []
    assert after.erased >= before.erased + 2
    recorded = AuditEvent.objects.get(what="trail.payload_erased")
    assert recorded.why == "She asked for it"
    assert {str(one.event_id), str(other.event_id)} <= set(recorded.facts["event_ids"])


def test_one_event_alone(ann: User) -> None:
    one, other = told(ann), told(ann)
    erase("--event", str(one.event_id))
    assert details(one) == 0
    assert details(other) == 1


def test_archived_ones_are_erased_too(ann: User) -> None:
    old, young = told(ann, days_ago=100), told(ann)
    retention.purge(timezone.now())
    assert not AuditEvent.objects.filter(pk=old.pk).exists()
    assert details(old) == 1
    erase(f"auth.user:{ann.pk}")
    assert details(old, young) == 0


@pytest.mark.parametrize("days_ago", [0, 100])
def test_what_is_on_hold_is_refused_by_name(ann: User, days_ago: int) -> None:
    event, other = told(ann, days_ago=days_ago), told(ann)
    retention.purge(timezone.now())
    placed = hold(starts_at=event.at, ends_at=event.at + timedelta(microseconds=1))
    with pytest.raises(CommandError, match=rf"Legal hold {placed.pk} keeps these details \(Case 7\)"):
        erase(f"auth.user:{ann.pk}")
    assert details(event, other) == 2


def test_the_database_refuses_what_is_on_hold(ann: User) -> None:
    event = told(ann)
    hold(target_type="auth.user", target_id=str(ann.pk))
    with pytest.raises(DatabaseError, match="nothing is removed"), transaction.atomic():
        AuditPayload.objects.filter(event_pk=event.pk).delete()


def test_details_that_were_taken_away_are_found(ann: User) -> None:
    one, other = told(ann), told(ann)
    erase("--event", str(one.event_id))
    triggers.GUARDS.remove(connection)
    AuditPayload.objects.filter(event_pk=other.pk).delete()
    sealing.sweep(timezone.now())
    found = [f"{problem.where}: {problem.what}" for problem in verify(timezone.now(), Tally())]
    assert found == [f"event {other.pk}: its details are gone, but the trail tells of no erasing"]


def test_details_that_were_changed_are_found(ann: User) -> None:
    one, other = told(ann), told(ann, phone="another")
    triggers.GUARDS.remove(connection)
    body = AuditPayload.objects.get(event_pk=other.pk).body
    AuditPayload.objects.filter(event_pk=one.pk).update(body=body)
    sealing.sweep(timezone.now())
    found = [f"{problem.where}: {problem.what}" for problem in verify(timezone.now(), Tally())]
    assert found == [f"event {one.pk}: its details were changed, or were encrypted with another key"]


@pytest.mark.parametrize("name", ["7", "auth.user", "auth.user:", ":7"])
def test_an_object_is_named_by_kind_and_id(name: str) -> None:
    with pytest.raises(CommandError, match="kind:id"):
        erase(name)


def test_a_reason_is_needed() -> None:
    with pytest.raises(CommandError, match="Say why"):
        call_command("audit_erase", "auth.user:1", "--reason", " ")
