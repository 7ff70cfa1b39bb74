"""Whoever goes round the models meets the same wall."""

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from audit import sealing, triggers
from audit.models import AuditEvent, AuditLeaf
from audit.recorder import record
from audit.vocabulary import AccessEvent

pytestmark = pytest.mark.django_db

COLUMNS = ", ".join(f'"{field.column}"' for field in AuditEvent._meta.fields)


def refused(sql: str) -> None:
    record(AccessEvent.DENIED, why="The original")
    with pytest.raises(DatabaseError, match="audit trail"), transaction.atomic():
        connection.cursor().execute(sql)
    assert AuditEvent.objects.get(what=AccessEvent.DENIED).why == "The original"


def test_updating_is_refused() -> None:
    refused("UPDATE audit_auditevent SET why = 'Another'")


def test_deleting_is_refused() -> None:
    refused("DELETE FROM audit_auditevent")


@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's own way round a DELETE trigger")
@pytest.mark.parametrize("key", ["id", "event_id"])
def test_replacing_is_refused(key: str) -> None:
    columns = COLUMNS.replace('"why"', "'Another'")
    if key == "event_id":
        columns = columns.replace('"id"', "id + 1000")
    refused(f"INSERT OR REPLACE INTO audit_auditevent ({COLUMNS}) SELECT {columns} FROM audit_auditevent")  # noqa: S608


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL can truncate")
def test_truncating_is_refused() -> None:
    refused("TRUNCATE audit_auditevent")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has replication roles")
def test_a_replication_role_does_not_silence_the_guards() -> None:
    refused("SET LOCAL session_replication_role = replica; DELETE FROM audit_auditevent")


def test_a_dropped_guard_is_noticed_and_put_back() -> None:
    on = " ON audit_auditevent" if connection.vendor == "postgresql" else ""
    connection.cursor().execute(f"DROP TRIGGER audit_auditevent_kept{on}")
    with pytest.raises(CommandError, match="the database lacks its guards: audit_auditevent_kept"):
        call_command("check", tags=["database"], databases=["default"])


@pytest.mark.parametrize("name", ["audit_auditevent_kept", "audit_auditleaf_under_seal"])
def test_a_guard_that_does_nothing_any_more_is_noticed(name: str) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'"
            )
        else:
            cursor.execute(f"DROP TRIGGER {name}")
            cursor.execute(f"CREATE TRIGGER {name} BEFORE DELETE ON audit_auditleaf BEGIN SELECT 1; END")
    assert triggers.GUARDS.missing(connection) == {name}


@pytest.mark.parametrize(("seal_n", "position"), [(10**9, 0), (1, 10**6)])
def test_a_leaf_without_a_place_under_a_seal_is_refused(seal_n: int, position: int) -> None:
    record(AccessEvent.DENIED)
    sealing.sweep(timezone.now())
    with pytest.raises(DatabaseError, match="has its place under a seal"), transaction.atomic():
        AuditLeaf.objects.create(event_pk=10**6, seal_n=seal_n, position=position, row_hash=bytes(32))
    triggers.GUARDS.install(connection)
    call_command("check", tags=["database"], databases=["default"])
