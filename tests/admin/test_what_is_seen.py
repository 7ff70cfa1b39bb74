"""Looking is on the trail where it matters, and so is being turned away."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from audit.models import AuditEvent
from audit.recorder import record
from audit.vocabulary import AccessEvent
from tests import people
from workflows import roles

pytestmark = pytest.mark.django_db


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_somebody_signed_in_who_is_no_staff_is_turned_away_and_the_trail_tells() -> None:
    guest = User.objects.create_user("guest")
    response = browser(guest).get(reverse("admin:auth_user_changelist"))
    assert response.status_code == 302
    event = AuditEvent.objects.get(what="access.denied")
    assert (event.who_label, event.outcome) == ("guest", "refused")


def test_a_stranger_is_sent_to_the_sign_in_without_noise() -> None:
    assert Client().get(reverse("admin:auth_user_changelist")).status_code == 302
    assert not AuditEvent.objects.filter(what="access.denied").exists()


def test_looking_at_exports_is_on_the_trail() -> None:
    browser(people.person("audrey", roles.AUDITOR)).get(reverse("admin:audit_auditexport_changelist"))
    assert AuditEvent.objects.get(what="trail.export_viewed").who_label == "audrey"


def test_writing_directions_in_an_event_stay_where_they_are() -> None:
    event = record(AccessEvent.DENIED, why="\u202eevil", facts={"path": "\u202eevil"})
    client = browser(people.person("audrey", roles.AUDITOR))
    html = client.get(reverse("admin:audit_auditevent_change", args=[event.pk])).content.decode()
    assert "<bdi>\u202eevil</bdi>" in html
    assert "<bdi>&quot;\u202eevil&quot;</bdi>" in html
