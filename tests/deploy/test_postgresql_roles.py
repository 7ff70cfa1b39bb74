"""deploy/postgresql.sql on a real server: what the product does works, what an intruder in its role tries fails."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from tests import machine
from tests.product import ROOT, Product, free_port, postgresql_database, wait_for

pytestmark = pytest.mark.drill

WORK = """
import json
from django.contrib.auth.models import User
from django.utils import timezone
from audit import sealing
from audit.models import AuditEvent, AuditLeaf
from compliance_bot import tables
from workflows.models import Message
from workflows.services import approvals, messages
from tests import people, world
from workflows.domain.states import Verdict
from workflows.models import ApprovalRequest

tables.bring_up_to_date()
alice = people.alice()
draft = world.message(alice, world.audience(world.robot(alice)))
messages.submit(message_id=draft.pk, by=alice)
approvals.decide(approval_id=ApprovalRequest.objects.get().pk, verdict=Verdict.APPROVE, by=people.olivia(), reason="")
sealing.sweep(timezone.now())
print(json.dumps([Message.objects.get().state, AuditLeaf.objects.count() == AuditEvent.objects.count() > 0]))
"""


NIGHT = """
import json
from datetime import timedelta
import time_machine
from django.db import transaction
from django.utils import timezone
from audit import completeness, retention
from audit.models import AuditEvent
from audit.recorder import record
from audit.vocabulary import AccessEvent
from workflows import tasks

with time_machine.travel(timezone.now() - timedelta(days=31)), transaction.atomic():
    old = record(AccessEvent.DENIED, why="old")
retention.purge(timezone.now())
tasks.nightly()
found = [result.check.name for result in completeness.run(timezone.now()) if result.findings]
print(json.dumps([AuditEvent.objects.filter(pk=old.pk).exists(), found]))
"""


@dataclass(frozen=True)
class Server:
    """A database with its two roles, before the first migration."""

    url: str
    owner: str
    app: str
    password: str

    def as_role(self, role: str) -> str:
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{role}:{self.password}@{host}"))

    def grant(self) -> subprocess.CompletedProcess[str]:
        names = ["-v", f"owner={self.owner}", "-v", f"app={self.app}"]
        command = ["psql", "-X", *names, "-f", str(ROOT / "deploy" / "postgresql.sql"), self.url]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def granted(self) -> None:
        done = self.grant()
        assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    machine.require(machine.postgresql(), "PostgreSQL")
    suffix = secrets.token_hex(4)
    owner, app, password = f"h_owner_{suffix}", f"h_app_{suffix}", secrets.token_hex(16)
    with postgresql_database(machine.postgresql()) as url:
        server = Server(url, owner, app, password)
        try:
            server.granted()
            with psycopg.connect(url, autocommit=True) as connection:
                for role in (owner, app):
                    connection.execute(f"ALTER ROLE {role} PASSWORD '{password}'")
            yield server
        finally:
            with psycopg.connect(url, autocommit=True) as connection:
                for role in (app, owner):
                    connection.execute(f"DROP OWNED BY {role} CASCADE")
                    connection.execute(f"DROP ROLE {role}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("roles")


@pytest.fixture(scope="module")
def product(server: Server, folder: Path) -> Product:
    """Migrated by the owner, let in by the script, run as the other role; and a mass send was approved."""
    owner = Product(folder, database_url=server.as_role(server.owner))
    app = Product(folder, database_url=server.as_role(server.app))
    refused(app, "the database lacks migration ")
    owner.manage("migrate", "--verbosity=0")
    owner.manage("createcachetable")
    refused(app, "may not use audit_auditevent, ")
    server.granted()
    assert app.ask(WORK) == ["released", True]
    return app


def refused(product: Product, why: str) -> None:
    """``serve`` ends with one sentence, before anything was started."""
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c"]
    script = "from compliance_bot import tables; tables.bring_up_to_date()"
    done = subprocess.run(
        [*command, script], cwd=ROOT, env=product.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert why in done.stderr


def test_the_product_works_as_the_lesser_role(product: Product) -> None:
    assert "intact" in product.manage("verify_audit")
    product.manage("check", "--database", "default")


def test_serve_starts_as_the_lesser_role(product: Product) -> None:
    product.environment["SANDBOX_PORT"] = str(free_port())
    product.start("serve", "--port", str(free_port()))
    try:
        wait_for(lambda: "Ready:" in product.log("serve"), "the start")
    finally:
        product.stop_all()


def test_a_night_goes_by_as_the_lesser_role(product: Product) -> None:
    """What is old is archived and purged; nothing is missing afterwards."""
    assert product.ask(NIGHT) == [False, []]


def test_the_script_can_be_repeated(server: Server, product: Product) -> None:
    server.granted()
    product.manage("check", "--database", "default")


TRIES = [
    "UPDATE audit_auditevent SET why = ''",
    "UPDATE audit_auditseal SET size = 0",
    "UPDATE audit_auditpurgegrant SET events = 0",
    "UPDATE workflows_approvaldecision SET verdict = 'approve'",
    "DELETE FROM audit_auditevent",
    "DELETE FROM audit_auditleaf",
    "DELETE FROM audit_auditseal",
    "DELETE FROM audit_auditpurge",
    "DELETE FROM audit_audithold",
    "DELETE FROM workflows_approvaldecision",
    "DELETE FROM workflows_approvalrequest",
    "DELETE FROM django_migrations",
    "TRUNCATE audit_auditevent",
    "TRUNCATE audit_search_v1",
    "TRUNCATE workflows_message",
    "ALTER TABLE audit_auditevent DISABLE TRIGGER ALL",
    "DROP TRIGGER audit_auditevent_kept ON audit_auditevent",
    "DROP FUNCTION audit_auditevent_kept CASCADE",
    "CREATE OR REPLACE FUNCTION audit_auditevent_kept() RETURNS trigger LANGUAGE sql AS $$ SELECT NULL $$",
    "CREATE TRIGGER own BEFORE DELETE ON audit_auditevent FOR EACH ROW EXECUTE FUNCTION audit_auditevent_kept()",
    "CREATE RULE own AS ON INSERT TO audit_auditevent DO INSTEAD NOTHING",
    "DROP TABLE audit_auditevent",
    "ALTER TABLE audit_auditevent OWNER TO CURRENT_USER",
    "CREATE TABLE own ()",
    "CREATE TEMPORARY TABLE audit_auditleaf ()",
    "CREATE SCHEMA own",
    "SET session_replication_role = replica",
    "SELECT set_config('session_replication_role', 'replica', false)",
    "CREATE ROLE own SUPERUSER",
]


@pytest.mark.parametrize("sql", TRIES)
def test_an_intruder_is_refused(server: Server, product: Product, sql: str) -> None:
    with psycopg.connect(server.as_role(server.app)) as connection, pytest.raises(psycopg.Error) as refusal:
        connection.execute(sql)
    assert isinstance(refusal.value, psycopg.errors.InsufficientPrivilege | psycopg.errors.CheckViolation)


def test_an_intruder_cannot_become_the_owner(server: Server, product: Product) -> None:
    with (
        psycopg.connect(server.as_role(server.app)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(f"SET ROLE {server.owner}")


def test_the_guards_stand_although_the_role_may_delete_what_was_granted(server: Server, product: Product) -> None:
    with (
        psycopg.connect(server.as_role(server.app)) as connection,
        pytest.raises(psycopg.errors.CheckViolation, match="nothing is removed from the audit trail"),
    ):
        connection.execute("DELETE FROM audit_auditevent")


@pytest.mark.parametrize(
    ("power", "taken_back", "said"),
    [
        ("ALTER ROLE {app} CREATEROLE", "ALTER ROLE {app} NOCREATEROLE", "has powers that it must not have"),
        ("GRANT {owner} TO {app}", "REVOKE {owner} FROM {app}", "has powers that it must not have"),
        ("CREATE TABLE own (); ALTER TABLE own OWNER TO {app}", "DROP TABLE own", "REASSIGN OWNED BY"),
    ],
)
def test_a_role_with_too_much_power_is_refused(
    server: Server, product: Product, power: str, taken_back: str, said: str
) -> None:
    def run(sql: str) -> None:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(sql.format(app=server.app, owner=server.owner).encode())

    run(power)
    try:
        done = server.grant()
    finally:
        run(taken_back)
    assert done.returncode != 0
    assert said in done.stderr


def test_what_a_careless_hand_granted_is_taken_back(server: Server, product: Product) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {server.app}, PUBLIC".encode())
    server.granted()
    with psycopg.connect(server.as_role(server.app)) as connection:
        changes = connection.execute("SELECT has_table_privilege('audit_auditevent', 'UPDATE')").fetchone()
        empties = connection.execute("SELECT has_table_privilege('workflows_message', 'TRUNCATE')").fetchone()
    assert (changes, empties) == ((False,), (False,))
