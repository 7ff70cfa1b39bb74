"""Many processes that want to settle one request at the same moment: one outcome, one execution, whoever is first."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import machine
from tests.product import ROOT, Product, installed, postgresql_database

pytestmark = pytest.mark.drill

PROCESSES = 5
# In each process; fifty decisions in all.
DECISIONS = 10

SEED = """
import json
from django.contrib.auth.models import User
from workflows.models import *
from workflows.services import messages, secrets
author = User.objects.create_superuser("author")
for number in range(50):
    User.objects.create_superuser(f"officer{number}")
key = SecretRef.objects.create(name="robot", owner=author)
secrets.store(secret=key, value="drill-robot-key", by=author)
channel = Channel.objects.create(name="Robot", config={"base_url": "http://127.0.0.1:9"})
ChannelSecret.objects.create(channel=channel, field="key", secret=key)
audience = Audience.objects.create(name="Large")
AudienceMember.objects.create(audience=audience, channel=channel, label="Large group", size=500)
for number in range(3):
    message = Message(subject=f"Drill {number}", body="Drill", audience=audience, reason="Drill")
    messages.write(message=message, by=author)
    messages.submit(message_id=message.pk, by=author)
print(json.dumps(list(ApprovalRequest.objects.order_by("pk").values_list("pk", flat=True))))
"""

# Is ready, waits for a line, does everything at once, and prints what came of it, by request.
RACER = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from django.contrib.auth.models import User
from django.db import connection
from workflows.domain.errors import WorkflowError
from workflows.domain.states import Verdict
from workflows.services import approvals

decided, withdrawn, expired = {requests}
author = User.objects.get(username="author")
officers = list(User.objects.filter(username__startswith="officer").order_by("pk"))[{first}:][:10]

def decide(request, number):
    verdict = Verdict.APPROVE if number % 2 else Verdict.DENY
    approvals.decide(approval_id=request, verdict=verdict, by=officers[number], reason="At once")
    return verdict.value

def withdraw(request, number):
    approvals.withdraw(approval_id=request, by=author, reason="At once")
    return "withdrawn"

def expire(request, number):
    approvals.expire(request)
    return "looked"

attempts = [(decide, decided, number) for number in range(10)]
attempts += [(decide, withdrawn, 0), (withdraw, withdrawn, 0), (decide, expired, 1), (expire, expired, 0)]
barrier = Barrier(len(attempts))

def attempt(act, request, number):
    barrier.wait()
    try:
        return request, act(request, number)
    except WorkflowError as refusal:
        return request, refusal.code
    finally:
        connection.close()

with ThreadPoolExecutor(len(attempts)) as pool:
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(list(pool.map(attempt, *zip(*attempts)))), flush=True)
"""

STORED = """
import json
from audit.models import AuditEvent
from workflows.models import *

def told(request):
    message = Message.objects.get(pk=request.subject_id)
    about = AuditEvent.objects.filter(target_type="workflows.approvalrequest", target_id=str(request.pk))
    return {
        "state": request.state,
        "message": message.state,
        "verdicts": list(request.decisions.values_list("verdict", flat=True)),
        "deliveries": message.deliveries.count(),
        "executions": about.filter(what="approval.executing").count(),
    }

print(json.dumps([told(request) for request in ApprovalRequest.objects.order_by("pk")]))
"""

# What each end leaves behind: the message's state, the verdicts, how often it was carried out.
ENDS: dict[str, tuple[str, list[str], int]] = {
    "executing": ("released", ["approve"], 1),
    "denied": ("cancelled", ["deny"], 0),
    "withdrawn": ("draft", [], 0),
    "expired": ("draft", [], 0),
}


@pytest.fixture(params=["sqlite", "postgresql"])
def product(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Product]:
    if request.param == "sqlite":
        with installed(tmp_path / "data") as product:
            yield product
        return
    machine.require(machine.postgresql(), "PostgreSQL")
    with (
        postgresql_database(machine.postgresql()) as url,
        installed(tmp_path / "data", database_url=url) as product,
    ):
        yield product


def race(product: Product, requests: list[int]) -> dict[int, Counter[str]]:
    """What came of all attempts of all processes, by request."""
    scripts = [RACER.format(requests=requests, first=number * DECISIONS) for number in range(PROCESSES)]
    racers = [
        subprocess.Popen(
            [sys.executable, "manage.py", "shell", "--no-imports", "-c", script],
            cwd=ROOT,
            env=product.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for script in scripts
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    came: dict[int, Counter[str]] = {request: Counter() for request in requests}
    for racer in racers:
        printed, _nothing = racer.communicate(timeout=120)
        for request, outcome in json.loads(printed):
            came[request][outcome] += 1
    return came


def test_however_many_want_to_settle_a_request_there_is_one_outcome(product: Product) -> None:
    requests = product.ask(SEED)
    came = race(product, requests)
    ends = dict(zip(requests, product.ask(STORED), strict=True))
    for found in ends.values():
        message, verdicts, times = ENDS[found["state"]]
        assert (found["message"], found["verdicts"]) == (message, verdicts)
        assert (found["deliveries"], found["executions"]) == (times, times)

    decided, withdrawn, expired = requests
    (verdict,) = ends[decided]["verdicts"]
    assert came[decided] == {verdict: 1, "already_decided": PROCESSES * DECISIONS - 1}
    assert came[withdrawn]["already_decided"] == PROCESSES * 2 - 1
    assert came[expired]["looked"] == PROCESSES
    assert came[expired]["already_decided"] == PROCESSES - len(ends[expired]["verdicts"])
