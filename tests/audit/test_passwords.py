"""A new password is on the trail, whatever way it came; its hash never is."""

from io import StringIO

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client, override_settings
from django.urls import reverse

from audit.models import AuditEvent
from tests import people

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


def told() -> list[tuple[str, str]]:
    events = AuditEvent.objects.filter(what="user.password_changed").order_by("pk")
    return [(event.who_label, event.target_label) for event in events]


def test_the_own_page(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    words = {"old_password": "correct horse battery", "new_password1": "a new one 77", "new_password2": "a new one 77"}
    assert client.post(reverse("admin:password_change"), words).status_code == 302
    assert told() == [("alice", "alice")]
    assert alice.password not in AuditEvent.objects.latest("pk").canon


def test_a_shell(alice: User) -> None:
    alice.set_password("a new one 77")
    alice.save()
    assert told() == [("system", "alice")]


def test_the_same_hash_saved_again_is_no_change(alice: User) -> None:
    alice.save()
    alice.save(update_fields=["first_name"])
    assert told() == []


def test_a_newer_kind_of_hash_at_a_sign_in_is_no_change(alice: User) -> None:
    before = alice.password
    newer = ["django.contrib.auth.hashers.PBKDF2PasswordHasher", *settings.PASSWORD_HASHERS]
    with override_settings(PASSWORD_HASHERS=newer):
        assert Client().login(username="alice", password="correct horse battery")
    alice.refresh_from_db()
    assert alice.password != before
    assert told() == []


def test_a_rotated_signing_key() -> None:
    call_command("audit_keys", "--rotate", stdout=StringIO())
    call_command("audit_keys", "--rotate", stdout=StringIO())
    first, second = AuditEvent.objects.filter(what="trail.key_rotated").order_by("pk")
    assert first.facts["new"] == second.facts["old"] != second.facts["new"]
