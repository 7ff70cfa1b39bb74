"""Several clusters over one PostgreSQL, killed, stopped, and cut off from it: nothing is lost, nothing is doubled."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests import machine
from tests.product import ROOT, Product, free_port, installed, postgresql_database, wait_for

pytestmark = pytest.mark.drill

SIZE = 3000

SEED = f"""
import json
from django.conf import settings
from django.contrib.auth.models import User
from workflows.models import *
from workflows.services import messages, secrets
author = User.objects.create_superuser("author")
channel = Channel.objects.create(name="Hook", kind="webhook", config={{}}, per_minute=60_000)
for field, value in {{"url": settings.SANDBOX_URL + "/hook", "signing_key": "k" * 32}}.items():
    stored = SecretRef.objects.create(name=field.replace("_", "-"), owner=author)
    secrets.store(secret=stored, value=value, by=author)
    ChannelSecret.objects.create(channel=channel, field=field, secret=stored)
audience = Audience.objects.create(name="Many")
AudienceMember.objects.bulk_create(
    AudienceMember(audience=audience, channel=channel, label=str(n), address=str(n), is_group=False, size=1)
    for n in range({SIZE})
)
message = Message(subject="Drill", body="Drill", audience=audience, reason="Drill")
messages.write(message=message, by=author)
messages.submit(message_id=message.pk, by=author)
print(json.dumps(message.pk))
"""

# By state; of those that may have arrived, and of those that did, the key that the receiver saw.
STATES = """
import json
from collections import Counter
from workflows.models import Delivery
print(json.dumps(Counter(Delivery.objects.values_list("state", flat=True))))
"""

KEYS = """
import json
from workflows.models import Delivery
from workflows.services import ledger
rows = Delivery.objects.select_related("message")
print(json.dumps([[ledger._key(row.message, row), row.state] for row in rows]))
"""

TIME_PASSES = """
import json
from datetime import timedelta
from django.utils import timezone
from workflows.models import Delivery, Message
past = timezone.now() - timedelta(seconds=1)
Delivery.objects.filter(state="sending").update(lease_until=past)
Message.objects.filter(state="released").update(next_attempt_at=past)
print(json.dumps(True))
"""


# The clock asks another worker once a hint is old: in a minute.
HINT_IS_LOST = """
import json
from django.utils import timezone
from workflows.models import Message
Message.objects.filter(state="released").update(next_attempt_at=timezone.now())
print(json.dumps(True))
"""

CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def database_url() -> Iterator[str]:
    machine.require(machine.postgresql(), "PostgreSQL")
    with postgresql_database(machine.postgresql()) as url:
        yield url


@pytest.fixture
def received(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The port of a receiver, and the file in which it keeps what came."""
    told, log = tmp_path / "port", tmp_path / "received"
    process = subprocess.Popen([sys.executable, "-m", "tests.sink", str(told), str(log)], cwd=ROOT)
    yield int(wait_for(lambda: told.exists() and told.read_text(), "the receiver to listen")), log
    process.terminate()
    process.wait()


@pytest.fixture(params=["database", "redis"])
def broker(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Where hints wait."""
    if request.param == "database":
        yield {}
        return
    machine.require(machine.redis(), "Redis")
    port = free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    process = subprocess.Popen([machine.redis(), *options], stdout=subprocess.DEVNULL)
    client = Redis(port=port)

    def answers() -> bool:
        with suppress(RedisError):
            return bool(client.ping())
        return False

    wait_for(answers, "Redis to answer")
    yield {"REDIS_URL": f"redis://127.0.0.1:{port}"}
    process.terminate()
    process.wait()


@pytest.fixture
def product(tmp_path: Path, database_url: str, received: tuple[int, Path], broker: dict[str, str]) -> Iterator[Product]:
    with installed(tmp_path / "data", database_url=database_url, sandbox_port=received[0]) as product:
        policy = tmp_path / "policy.yaml"
        policy.write_text("security: {actions: {rate_limit_per_minute: 1000000, require_approval_for: []}}\n")
        product.environment |= {"POLICY_FILE": str(policy), "WORKERS": "3", **broker}
        yield product


def test_whatever_happens_to_its_clusters_a_message_arrives_once(
    product: Product, received: tuple[int, Path], database_url: str
) -> None:
    def arrived() -> list[str]:
        return received[1].read_text().split()

    product.ask(SEED)
    product.start("clock")
    killed, stopped = product.start("qcluster"), product.start("qcluster")
    wait_for(lambda: len(arrived()) > SIZE // 10, "the first to arrive")
    product.kill(killed)
    product.ask(HINT_IS_LOST)
    wait_for(lambda: len(arrived()) > SIZE // 5, "the other cluster to go on")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(CUT)
    stopped.terminate()
    product.start("qcluster")

    def finished() -> bool:
        product.ask(TIME_PASSES)
        states = product.ask(STATES)
        return bool(states.keys() <= {"sent", "unknown"} and sum(states.values()) == SIZE)

    wait_for(finished, "every delivery to have its outcome", patience=120)
    times = Counter(arrived())
    assert max(times.values()) == 1, "something arrived twice"
    lost = [key for key, state in product.ask(KEYS) if state == "sent" and key not in times]
    assert lost == [], "something is said to be sent and never arrived"
    silent = {key for key, state in product.ask(KEYS) if state != "unknown"} ^ set(times)
    unknown = {key for key, state in product.ask(KEYS) if state == "unknown"}
    assert silent <= unknown, "something arrived of which nobody knows"
