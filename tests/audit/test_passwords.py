"""Whoever sets a password, and wherever: it is on the trail, and the password is not."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from audit import payloads
from audit.models import AuditEvent
from tests import people
from workflows.domain.states import Verdict
from workflows.models import ApprovalRequest
from workflows.services import approvals

pytestmark = pytest.mark.django_db

# The first is what new hashes are made with; those of the tests' people are of the second kind.
NEWER_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher", "django.contrib.auth.hashers.MD5PasswordHasher"]
OLD, NEW = "correct horse battery", "a quite new password"


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def on_their_own_page(user: User) -> None:
    form = {"old_password": OLD, "new_password1": NEW, "new_password2": NEW}
    assert signed_in(user).post(reverse("admin:password_change"), form).status_code == 302


def on_the_page_of_a_superuser_and_approved(user: User) -> None:
    url = reverse("admin:auth_user_password_change", args=[user.pk])
    form = {"password1": NEW, "password2": NEW, "usable_password": "true"}
    superuser = signed_in(people.sam())
    held = superuser.post(url, form).context["held"]
    superuser.post(reverse("admin:workflows_change_ask"), {"held": held, "reason": "Forgotten"})
    assert not AuditEvent.objects.filter(what="user.password_changed").exists()
    request = ApprovalRequest.objects.get()
    approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=people.olivia(), reason="Agreed")


def by_the_command(user: User) -> None:
    call_command("changepassword", user.username)


def in_the_shell(user: User) -> None:
    user.set_password(NEW)
    user.save()


def in_the_shell_that_column_alone(user: User) -> None:
    user.set_password(NEW)
    user.save(update_fields=["password"])


def as_a_ready_hash(user: User) -> None:
    user.password = make_password(NEW)
    user.save(update_fields=["password"])


def by_taking_it_away(user: User) -> None:
    user.set_unusable_password()
    user.save(update_fields=["password"])


WAYS: list[tuple[Callable[[User], None], str]] = [
    (on_their_own_page, "alice"),
    (on_the_page_of_a_superuser_and_approved, "olivia"),
    (by_the_command, "system"),
    (in_the_shell, "system"),
    (in_the_shell_that_column_alone, "system"),
    (as_a_ready_hash, "system"),
    (by_taking_it_away, "system"),
]


@pytest.mark.parametrize(("change", "who"), WAYS)
def test_a_new_password_is_on_the_trail_once(
    change: Callable[[User], None], who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: NEW)  # a terminal is asked otherwise
    alice = people.alice()
    change(alice)
    event = AuditEvent.objects.get(what="user.password_changed")
    assert (event.who_label, event.target_type, event.target_id) == (who, "auth.user", str(alice.pk))
    assert (event.outcome, event.facts, event.payload_digest) == ("success", {}, None)


@pytest.mark.parametrize("change", [change for change, _who in WAYS])
def test_a_new_password_is_not_taken_for_a_newer_hash(
    change: Callable[[User], None], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: NEW)
    alice = people.alice()
    settings.PASSWORD_HASHERS = NEWER_HASHERS
    change(alice)
    assert AuditEvent.objects.filter(what="user.password_changed").count() == 1


def test_each_of_two_new_passwords_of_one_object_is_on_the_trail() -> None:
    alice = people.alice()
    in_the_shell(alice)
    as_a_ready_hash(alice)
    assert AuditEvent.objects.filter(what="user.password_changed").count() == 2


def test_the_same_password_under_a_newer_hash_is_no_change(settings: Any) -> None:
    alice = people.alice()
    before = alice.password
    settings.PASSWORD_HASHERS = NEWER_HASHERS
    assert Client().login(username="alice", password=OLD)
    alice.refresh_from_db()
    assert alice.password != before
    assert not AuditEvent.objects.filter(what="user.password_changed").exists()


def test_what_leaves_the_password_alone_changes_none() -> None:
    alice = people.alice()
    alice.first_name = "Alice"
    alice.save()
    alice.set_password(NEW)
    alice.save(update_fields=["first_name"])
    assert not AuditEvent.objects.filter(what="user.password_changed").exists()


def test_a_new_account_is_on_the_trail_without_its_password() -> None:
    form = {"username": "bob", "password1": NEW, "password2": NEW, "usable_password": "true"}
    assert signed_in(people.sam()).post(reverse("admin:auth_user_add"), form).status_code == 302
    bob = User.objects.get(username="bob")
    created = AuditEvent.objects.get(what="object.created", target_type="auth.user", target_id=str(bob.pk))
    changes = json.loads(payloads.texts([created])[created.pk])["changes"]
    assert created.who_label == "sam"
    assert changes["username"] == ["None", "bob"]
    assert "password" not in changes
    assert not AuditEvent.objects.filter(what="user.password_changed").exists()


@pytest.mark.parametrize(("change", "who"), WAYS)
def test_neither_password_nor_hash_is_in_any_event(
    change: Callable[[User], None], who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: NEW)
    alice = people.alice()
    before = alice.password
    change(alice)
    alice.refresh_from_db()
    events = AuditEvent.objects.all()
    texts = [event.canon for event in events] + list(payloads.texts(events).values())
    assert not [text for text in texts for secret in (OLD, NEW, before, alice.password) if secret in text]
