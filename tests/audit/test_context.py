import ipaddress
import time
import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from audit import context
from audit.models import AuditEvent
from tests import people

pytestmark = pytest.mark.django_db


def test_the_server_makes_the_request_id_and_ignores_the_clients() -> None:
    forged = str(uuid.uuid4())
    response = Client().get("/healthz", headers={"X-Request-ID": forged})
    made = uuid.UUID(response.headers["X-Request-ID"])
    assert str(made) != forged
    assert made.version == 7


def test_two_requests_have_two_ids() -> None:
    client = Client()
    assert client.get("/healthz").headers["X-Request-ID"] != client.get("/healthz").headers["X-Request-ID"]


def test_signing_in_and_out_is_recorded_with_the_address() -> None:
    people.olivia()
    client = Client()
    given = {"username": "olivia", "password": "correct horse battery"}
    client.post("/admin/login/", given, REMOTE_ADDR="198.51.100.7", HTTP_X_FORWARDED_FOR="6.6.6.6")
    client.post("/admin/logout/", REMOTE_ADDR="198.51.100.7")
    events = AuditEvent.objects.filter(what__startswith="access.").order_by("id")
    assert [event.what for event in events] == ["access.signed_in", "access.signed_out"]
    assert {(event.who_label, event.ip) for event in events} == {("olivia", "198.51.100.7")}


def test_behind_a_trusted_proxy_the_clients_address_is_recorded(settings: Any) -> None:
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("127.0.0.1")]
    Client().post("/admin/login/", {"username": "x", "password": "y"}, HTTP_X_FORWARDED_FOR="6.6.6.6, 198.51.100.7")
    assert AuditEvent.objects.get(what="access.sign_in_failed").ip == "198.51.100.7"


class TestWhoIsNoStaff:
    @pytest.fixture(autouse=True)
    def _signed_in(self) -> None:
        self.client = Client()
        self.client.force_login(User.objects.create_user("guest", password="correct horse battery"))

    @pytest.mark.parametrize("page", ["index", "audit_auditevent_changelist", "audit_health", "password_change"])
    def test_a_page_of_the_admin_is_denied_and_that_is_recorded(self, page: str) -> None:
        response = self.client.get(reverse(f"admin:{page}"))
        assert (response.status_code, response.headers["Location"].split("?")[0]) == (302, "/admin/login/")
        event = AuditEvent.objects.get(what="access.denied")
        assert (event.who_label, event.outcome, event.facts) == ("guest", "refused", {"path": reverse(f"admin:{page}")})

    def test_the_sign_in_itself_is_open(self) -> None:
        assert self.client.get(reverse("admin:login")).status_code == 200
        assert not AuditEvent.objects.filter(what="access.denied").exists()


def test_who_is_not_signed_in_is_only_sent_to_the_sign_in() -> None:
    assert Client().get(reverse("admin:index")).status_code == 302
    assert not AuditEvent.objects.filter(what="access.denied").exists()


def test_a_failed_sign_in_names_the_account_and_never_the_password() -> None:
    Client().post("/admin/login/", {"username": "olivia", "password": "hunter2hunter2"})
    event = AuditEvent.objects.get(what="access.sign_in_failed")
    assert (event.outcome, event.facts["username"]) == ("failure", "olivia")
    assert "hunter2" not in event.canon


def test_a_task_goes_on_under_the_cause_of_the_person_who_started_it() -> None:
    with context.acting(people.alice()) as cause:
        argument = context.current().as_task_argument()
    assert argument == {"request_id": str(cause.request_id), "on_behalf_of": "alice"}


def test_ids_are_in_the_order_of_time() -> None:
    first = context.uuid7()
    start = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == start:
        pass
    assert first < context.uuid7()
