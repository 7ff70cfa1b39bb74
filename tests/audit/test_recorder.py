import hashlib
import hmac
import json
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext_lazy

from audit import context, payloads
from audit.models import AppendOnly, AuditEvent
from audit.recorder import NotInTransaction, record
from audit.vocabulary import AccessEvent
from tests import people

pytestmark = pytest.mark.django_db


def test_an_event_names_who_what_when_why_and_the_request() -> None:
    olivia = people.olivia()
    with context.acting(olivia) as cause:
        record(AccessEvent.DENIED, target=olivia, why="Wrong room", facts={"room": "secrets"})
    event = AuditEvent.objects.get(what=AccessEvent.DENIED)
    assert (event.who_kind, event.who_id, event.who_label) == ("user", str(olivia.pk), "olivia")
    assert (event.target_type, event.target_label) == ("auth.user", "olivia")
    assert (event.why, event.request_id, event.facts) == ("Wrong room", cause.request_id, {"room": "secrets"})


def test_who_acted_is_still_readable_when_the_account_is_gone() -> None:
    nora = people.nora()
    with context.acting(nora):
        record(AccessEvent.DENIED)
    User.objects.filter(pk=nora.pk).delete()
    assert AuditEvent.objects.get(what=AccessEvent.DENIED).who_label == "nora"


@pytest.mark.usefixtures("committed")
def test_outside_a_transaction_nothing_is_recorded() -> None:
    with pytest.raises(NotInTransaction):
        record(AccessEvent.DENIED)


def test_what_is_rolled_back_was_never_recorded() -> None:
    with transaction.atomic():
        record(AccessEvent.DENIED)
        transaction.set_rollback(True)
    assert not AuditEvent.objects.filter(what=AccessEvent.DENIED).exists()


def test_a_misspelt_event_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'access\.denyed' is not a declared audit event"):
        record("access.denyed")


def test_events_cannot_be_changed_or_deleted_through_the_models() -> None:
    event = record(AccessEvent.DENIED)
    with pytest.raises(AppendOnly):
        event.save()
    with pytest.raises(AppendOnly):
        event.delete()
    with pytest.raises(AppendOnly):
        AuditEvent.objects.all().delete()
    with pytest.raises(AppendOnly):
        AuditEvent.objects.update(why="")


def test_the_digest_covers_the_stored_text_and_the_mac_needs_the_key() -> None:
    record(AccessEvent.DENIED, why="Warum? 因为", facts={"n": 1})
    event = AuditEvent.objects.get(what=AccessEvent.DENIED)
    expected = hashlib.sha256(b"audit.v1\n" + bytes(event.nonce) + event.canon.encode()).digest()
    assert bytes(event.row_hash) == expected
    assert bytes(event.row_mac) == hmac.new(settings.AUDIT_KEY.encode(), expected, "sha256").digest()


def test_every_column_that_tells_something_is_in_the_hashed_text() -> None:
    with context.system_acting(on_behalf_of="alice"):
        record(AccessEvent.DENIED, why="w")
    event = AuditEvent.objects.get(what=AccessEvent.DENIED)
    told = json.loads(event.canon)
    not_told = {"id", "payload_digest", "schema_v", "nonce", "canon", "row_hash", "row_mac"}
    assert set(told) == {field.name for field in AuditEvent._meta.fields} - not_told | {"facts", "payload"}
    assert told["on_behalf_of"] == "alice"
    assert uuid.UUID(told["event_id"]) == event.event_id


@pytest.mark.parametrize(
    ("given", "kept"),
    [("a\x00b", "a�b"), ("lone \ud800", "lone ?"), ("长" * 10_000_000, "长" * 4095 + "…"), ("‮evil", "‮evil")],
)
def test_no_text_can_abort_its_own_record(given: str, kept: str) -> None:
    record(AccessEvent.DENIED, why=given)
    assert AuditEvent.objects.get(what=AccessEvent.DENIED).why == kept


def test_secrets_do_not_enter_the_trail() -> None:
    url = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=693a91f6-7aoc-4bc4-97a0-0ec2sifa5aaa"
    record(AccessEvent.DENIED, why=url, facts={"url": [url]})
    assert "693a91f6" not in AuditEvent.objects.get(what=AccessEvent.DENIED).canon


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (0.1, "0.1"),
        (float("nan"), "nan"),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (2**63, "0x8000000000000000"),
        pytest.param(10**10_000, hex(10**10_000)[:4095] + "…", id="more digits than Python writes"),
        ({"b", "a", 1}, ["1", "a", "b"]),
        (frozenset(), []),
        (b"\xff\x00", "b'\\xff\\x00'"),
        (date(2026, 1, 31), "2026-01-31"),
        (datetime(2026, 1, 31, 9, 30, tzinfo=UTC), "2026-01-31 09:30:00+00:00"),
        (Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (gettext_lazy("Signed in"), "Signed in"),
        pytest.param(b"x" * 10_000_000, "b'" + "x" * 4093 + "…", id="megabytes"),
        ([1, None, True, {"a": (0.5, "b")}], [1, None, True, {"a": ["0.5", "b"]}]),
    ],
)
def test_no_fact_can_abort_its_own_record(given: object, kept: object) -> None:
    record(AccessEvent.DENIED, facts={"fact": given}, erasable={"fact": given})
    event = AuditEvent.objects.get(what=AccessEvent.DENIED)
    assert event.facts == {"fact": kept}
    assert json.loads(payloads.texts([event])[event.pk]) == {"fact": kept}
