"""The page that tells whether the trail is whole and alive."""

from datetime import timedelta

import pytest
import time_machine
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit import sealing, verification
from audit.models import AuditEvent, AuditForwarder, AuditHold, AuditSeal
from audit.recorder import Outcome, record
from audit.vocabulary import AccessEvent, TrailEvent
from tests import people
from workflows import roles

pytestmark = pytest.mark.django_db


@pytest.fixture
def audrey() -> Client:
    """An auditor's browser."""
    client = Client()
    client.force_login(people.person("audrey", roles.AUDITOR))
    return client


def url() -> str:
    return reverse("admin:audit_health")


def shown(client: Client, language: str = "en") -> str:
    response = client.get(url(), headers={"accept-language": language})
    assert response.status_code == 200
    return response.content.decode()


def press(client: Client, button: str) -> str:
    return client.post(url(), {button: "1"}, follow=True).content.decode()


def seal() -> None:
    record(AccessEvent.DENIED)
    sealing.sweep(timezone.now())


def test_looking_changes_nothing(audrey: Client) -> None:
    seal()  # what installing has recorded may have waited for too long
    settings.AUDIT_CHECKPOINT_FILE.unlink()
    before = AuditEvent.objects.count()
    html = shown(audrey)
    assert "Not checked for gaps yet." in html
    assert AuditEvent.objects.count() == before
    assert not settings.AUDIT_CHECKPOINT_FILE.exists()


def test_it_is_for_who_may_read_the_trail() -> None:
    client = Client()
    client.force_login(people.nora())
    assert client.get(url()).status_code == 403
    assert client.post(url(), {"check": "1"}).status_code == 403
    assert not AuditEvent.objects.filter(what=TrailEvent.CHECKED).exists()


def test_checking_puts_the_result_on_the_trail_and_on_the_page(audrey: Client) -> None:
    seal()
    html = press(audrey, "check")
    assert "Nothing is missing." in html
    assert "Last checked" in html
    event = AuditEvent.objects.get(what=TrailEvent.CHECKED)
    assert (event.who_label, event.outcome) == ("audrey", Outcome.SUCCESS)


def test_a_finding_is_named(audrey: Client) -> None:
    record(TrailEvent.VERIFIED, outcome=Outcome.FAILURE)
    html = press(audrey, "check")
    assert "Something is missing; see below." in html
    assert "1 finding<" in html
    assert "verification: the last verification found problems" in html


def test_verifying_tells_who_did_it_and_what_came_of_it(audrey: Client) -> None:
    seal()
    html = press(audrey, "verify")
    assert "The trail is intact: " in html
    assert AuditEvent.objects.get(what=TrailEvent.VERIFIED).who_label == "audrey"
    assert 'badge-success">Success</span> <span class="quiet">audrey</span>' in html


def test_a_broken_trail_is_told_with_its_first_bad_rows(audrey: Client) -> None:
    seal()
    settings.AUDIT_CHECKPOINT_FILE.unlink()
    html = press(audrey, "verify")
    assert '<span class="badge badge-failed">The trail is not intact.</span>' in html
    assert "checkpoints: the file checkpoints.jsonl is gone" in html


def test_a_long_trail_is_not_verified_by_a_page(audrey: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "AT_ONCE", 1)
    seal()
    seal()
    assert 'name="verify"' not in shown(audrey)
    assert "run manage.py verify_audit" in press(audrey, "verify")
    assert not AuditEvent.objects.filter(what=TrailEvent.VERIFIED).exists()


def test_a_post_without_a_button_does_nothing(audrey: Client) -> None:
    assert audrey.post(url()).status_code == 400


def test_a_missing_guard_is_the_verdict(audrey: Client) -> None:
    on = " ON audit_auditevent" if connection.vendor == "postgresql" else ""
    connection.cursor().execute(f"DROP TRIGGER audit_auditevent_kept{on}")
    html = shown(audrey)
    assert '<span class="badge badge-failed">The database lacks its guards.</span>' in html
    assert "audit_auditevent_kept" in html


def test_holds_and_what_is_due_are_counted(audrey: Client) -> None:
    now = timezone.now()
    with time_machine.travel(now - timedelta(days=31)):
        record(AccessEvent.DENIED)
        record(AccessEvent.SIGNED_OUT, why="kept")
    AuditHold.objects.create(
        target_type="auth.user", reason="Lawsuit", owner="Legal", placed_by="olivia", placed_at=now
    )
    html = shown(audrey)
    assert "<dd>2 events</dd>" in html
    assert "1 in force" in html
    AuditHold.objects.create(
        ends_at=now - timedelta(days=30), reason="Lawsuit", owner="Legal", placed_by="olivia", placed_at=now
    )
    html = shown(audrey)
    assert "<dd>0 events</dd>" in html
    assert "they keep 2 events that are due" in html


def test_receivers_are_shown_with_their_problem(audrey: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    AuditForwarder.objects.create(name="syslog", failures=1, problem="Connection <refused>")
    assert "Connection" not in shown(audrey)  # switched off
    monkeypatch.setattr(settings, "AUDIT_SYSLOG", "udp://127.0.0.1:514")
    assert "Connection &lt;refused&gt;" in shown(audrey)


def test_a_new_installation_has_its_page(audrey: Client) -> None:
    assert shown(audrey).count("none yet") == 3


def test_it_speaks_chinese(audrey: Client) -> None:
    seal()
    press(audrey, "check")
    assert 'lang="zh-hans"' in shown(audrey, "zh-hans")


def test_it_brings_no_style_or_script_of_its_own(audrey: Client) -> None:
    html = shown(audrey)
    assert " style=" not in html
    assert "<style" not in html
    assert "<script>" not in html


class TestSeals:
    def test_they_are_listed_newest_first(self, audrey: Client) -> None:
        seal()
        seal()
        html = audrey.get(reverse("admin:audit_auditseal_changelist")).content.decode()
        assert html.index('field-n">2') < html.index('field-n">1')
        assert AuditSeal.objects.get(n=2).key_id in html

    def test_nobody_changes_them(self, audrey: Client) -> None:
        seal()
        sam = Client()
        sam.force_login(people.sam())
        assert sam.get(reverse("admin:audit_auditseal_add")).status_code == 403
        assert sam.post(reverse("admin:audit_auditseal_change", args=[1]), {"size": 0}).status_code == 403
        assert sam.post(reverse("admin:audit_auditseal_delete", args=[1]), {"post": "yes"}).status_code == 403

    def test_they_are_for_who_may_read_the_trail(self) -> None:
        client = Client()
        client.force_login(people.nora())
        assert client.get(reverse("admin:audit_auditseal_changelist")).status_code == 403
