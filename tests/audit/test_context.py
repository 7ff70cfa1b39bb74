import time
import uuid

import pytest
from django.test import Client

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
