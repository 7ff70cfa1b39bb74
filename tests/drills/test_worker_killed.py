"""kill -9 in the middle of a send: nothing is lost, nothing is doubled, the one in flight is known to be unknown."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from compliance_bot.sandbox import Sandbox, start
from compliance_bot.sandbox.wecom import Fault
from tests import machine
from tests.product import Product, installed, postgresql_database, wait_for

pytestmark = pytest.mark.drill

PARTS = 8

SEED = f"""
import json
from django.contrib.auth.models import User
from workflows.models import *
from workflows.services import messages, secrets
author = User.objects.create_superuser("author")
key = SecretRef.objects.create(name="robot", owner=author)
secrets.store(secret=key, value="drill-robot-key", by=author)
from django.conf import settings
channel = Channel.objects.create(name="Robot", config={{"base_url": settings.SANDBOX_URL}}, per_minute=600)
ChannelSecret.objects.create(channel=channel, field="key", secret=key)
audience = Audience.objects.create(name="Small")
AudienceMember.objects.create(audience=audience, channel=channel, label="Small group", size=3)
body = "\\n\\n".join(f"Block {{n}} " + "x" * 3800 for n in range({PARTS}))
message = Message(subject="Drill", body=body, audience=audience, reason="Drill")
messages.write(message=message, by=author)
messages.submit(message_id=message.pk, by=author)
print(json.dumps(message.pk))
"""

STATES = """
import json
from workflows.models import Delivery
print(json.dumps(list(Delivery.objects.order_by("id").values_list("state", flat=True))))
"""

# What forty-five seconds would do: leases and hints of the dead run out.
TIME_PASSES = """
import json
from datetime import timedelta
from django.utils import timezone
from workflows.models import Delivery, Message
past = timezone.now() - timedelta(seconds=1)
Delivery.objects.filter(state="sending").update(lease_until=past)
Message.objects.update(next_attempt_at=past)
print(json.dumps(True))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    machine.require(machine.postgresql(), "PostgreSQL")
    with postgresql_database(machine.postgresql()) as url:
        yield url


@pytest.fixture
def wecom(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = start(0, tmp_path / "wecom")
    yield sandbox
    sandbox.stop()


@pytest.fixture
def product(tmp_path: Path, database_url: str, wecom: Sandbox) -> Iterator[Product]:
    port = int(wecom.url.rsplit(":", 1)[1])
    with installed(tmp_path / "data", database_url=database_url, sandbox_port=port) as product:
        yield product


def test_a_killed_worker_loses_nothing_and_doubles_nothing(product: Product, wecom: Sandbox) -> None:
    # The third message is accepted, and its answer never comes.
    wecom.wecom.plan_faults([Fault("hang", seconds=0), Fault("hang", seconds=0), Fault("hang", seconds=600)])
    product.ask(SEED)
    clock, workers = product.start("clock"), product.start("qcluster")
    wait_for(lambda: len(wecom.wecom.messages()) == 3, "three parts received")
    product.kill(workers)
    product.kill(clock)
    assert product.ask(STATES) == ["sent", "sent", "sending", *["queued"] * (PARTS - 3)]

    product.ask(TIME_PASSES)
    product.start("clock")
    product.start("qcluster")
    wait_for(lambda: len(wecom.wecom.messages()) == PARTS, "the rest received")
    finished = ["sent", "sent", "unknown", *["sent"] * (PARTS - 3)]
    wait_for(lambda: product.ask(STATES) == finished, "every delivery settled")
    received = [message.content for message in wecom.wecom.messages()]
    assert len(set(received)) == PARTS
