import json
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission

from audit import context, payloads
from audit.models import AuditEvent
from tests import people, world
from workflows.models import SecretRef, Source

pytestmark = pytest.mark.django_db


def changes(what: str, target: str) -> dict[str, Any]:
    event = AuditEvent.objects.filter(what=what, target_type=target).latest("id")
    return dict(json.loads(payloads.texts([event])[event.pk])["changes"])


def test_an_edit_is_on_the_trail_field_by_field() -> None:
    source = Source.objects.create(name="News", config={"url": "https://a.example"})
    with context.acting(people.alice()):
        source.name = "Older news"
        source.save()
    assert changes("object.changed", "workflows.source") == {"name": ["News", "Older news"]}
    assert AuditEvent.objects.latest("id").who_label == "alice"


def test_a_role_given_to_a_person_is_on_the_trail() -> None:
    nora = people.nora()
    nora.groups.add(Group.objects.get(name="Auditors"))
    assert changes("object.changed", "auth.user") == {"groups": {"added": ["Auditors"]}}


def test_what_services_move_is_not_repeated_as_an_edit() -> None:
    source = Source.objects.create(name="News", config={"url": "https://a.example"})
    before = AuditEvent.objects.count()
    source.last_error = "timeout"
    source.save()
    assert AuditEvent.objects.count() == before


def test_neither_passwords_nor_secret_values_are_in_a_diff() -> None:
    alice = people.alice()
    alice.set_password("a brand new password")
    alice.save()
    world.robot(alice, key="very-secret-robot-key")
    events = AuditEvent.objects.all()
    texts = [event.canon for event in events] + list(payloads.texts(events).values())
    assert SecretRef.objects.exists()
    assert not [text for text in texts if "very-secret" in text or alice.password in text or "brand new" in text]


def test_clearing_names_what_was_attached_and_nothing_else() -> None:
    nora = people.person("nora", "Auditors")
    nora.groups.clear()
    assert changes("object.changed", "auth.user") == {"groups": {"removed": ["Auditors"]}}


def test_a_right_given_directly_is_on_the_trail() -> None:
    right = Permission.objects.get(codename="view_message")
    people.nora().user_permissions.add(right)
    assert changes("object.changed", "auth.user") == {"permissions": {"added": [str(right)]}}


def test_a_right_of_a_role_is_on_the_trail_given_and_taken() -> None:
    right, role = Permission.objects.get(codename="decide_approvalrequest"), Group.objects.get(name="Auditors")
    role.permissions.add(right)
    assert changes("object.changed", "auth.group") == {"permissions": {"added": [str(right)]}}
    role.permissions.remove(right)
    assert changes("object.changed", "auth.group") == {"permissions": {"removed": [str(right)]}}


def test_a_role_given_from_its_own_side_is_on_the_trail() -> None:
    Group.objects.get(name="Auditors").user_set.add(people.nora())
    assert changes("object.changed", "auth.group") == {"users": {"added": ["nora"]}}
