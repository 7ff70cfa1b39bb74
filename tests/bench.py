"""``make bench``: speeds as ratios in one run, because absolute figures belong to one machine.

Prints items curated a second, deliveries a second against the sandbox beside a bare ``requests`` loop that does the
same POSTs with no database, the time from approval to the first message in the group, and the queue of requests with
ten thousand that wait and a million that are past. The whole product runs as real processes on loopback; each figure
is the median of several rounds where nothing else is said.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import requests

from compliance_bot.sandbox import Sandbox, start
from tests import machine
from tests.product import ROOT, Product, installed, postgresql_database, wait_for

ROUNDS = 3
MESSAGES = 300
CLAIMS = 40

SEED = """
import json
from django.conf import settings
from django.contrib.auth.models import User
from workflows.models import *
from workflows.services import secrets
author = User.objects.create_superuser("author")
User.objects.create_superuser("officer")
key = SecretRef.objects.create(name="robot", owner=author)
secrets.store(secret=key, value="bench-robot-key", by=author)
channel = Channel.objects.create(name="Robot", config={"base_url": settings.SANDBOX_URL}, per_minute=6000)
ChannelSecret.objects.create(channel=channel, field="key", secret=key)
for name, size in (("Small", 3), ("Large", 500)):
    audience = Audience.objects.create(name=name)
    AudienceMember.objects.create(audience=audience, channel=channel, label=name, size=size)
print(json.dumps(True))
"""

# One message to many robots would need as many robots; many addresses on one robot cost the same work.
DELIVER = f"""
import json, time
from django.contrib.auth.models import User
from django.utils import timezone
from workflows.models import *
from workflows.services import delivery, messages
author = User.objects.get(username="author")
message = Message(subject="Bench", body="x" * 500, audience=Audience.objects.get(name="Small"), reason="Bench")
messages.write(message=message, by=author)
message = messages.submit(message_id=message.pk, by=author)
part, channel, seen = message.parts.get(), Channel.objects.get(), message.deliveries.get().channel_fingerprint
common = {{"message": message, "channel": channel, "channel_fingerprint": seen, "part": part, "recipient": "R"}}
Delivery.objects.bulk_create(
    Delivery(**common, address=str(n), not_before=timezone.now()) for n in range({MESSAGES} - 1)
)
started = time.perf_counter()
sent = 0
while sent < {MESSAGES}:
    sent += delivery.dispatch(message.pk)
print(json.dumps(sent / (time.perf_counter() - started)))
"""

APPROVE = """
import json, time
from django.contrib.auth.models import User
from workflows.domain.states import Verdict
from workflows.models import *
from workflows.services import approvals, messages
author, officer = User.objects.get(username="author"), User.objects.get(username="officer")
audience = Audience.objects.get(name="Large")
message = Message(subject="Bench", body=f"At {time.time()}", audience=audience, reason="Bench")
messages.write(message=message, by=author)
messages.submit(message_id=message.pk, by=author)
request = ApprovalRequest.objects.get(state="pending")
approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=officer, reason="")
print(json.dumps(time.time()))
"""

# From the call that decides to the event that a worker writes when it claims the delivery; by request, in seconds.
CLAIMED = f"""
import json, time
from audit.models import AuditEvent
from django.contrib.auth.models import User
from django.utils import timezone
from workflows.domain.states import Verdict
from workflows.models import *
from workflows.services import approvals, messages
author, officer = User.objects.get(username="author"), User.objects.get(username="officer")
taken = []
for number in range({CLAIMS}):
    message = Message(
        subject="Bench", body=f"Claim {{number}}", audience=Audience.objects.get(name="Large"), reason="Bench"
    )
    messages.write(message=message, by=author)
    messages.submit(message_id=message.pk, by=author)
    request = ApprovalRequest.objects.get(state="pending")
    began = timezone.now()
    approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=officer, reason="")
    attempted = AuditEvent.objects.filter(what="delivery.attempted", target_id=str(message.deliveries.get().pk))
    while not attempted.exists():
        time.sleep(0.02)
    taken.append((attempted.get().at - began).total_seconds())
print(json.dumps(sorted(taken)))
"""

DUE = """
import json
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils import timezone
from workflows.models import *
owner = User.objects.get(username="author")
audience = Audience.objects.get(name="Large")
flow, _ = Workflow.objects.get_or_create(name="Bench", defaults={"goal": "B", "owner": owner, "audience": audience})
Workflow.objects.update(state="active")
due = timezone.now() + timedelta(seconds=3)
cadence = Cadence.objects.create(workflow=flow, every_minutes=1440, days="all", next_run_at=due)
print(json.dumps(cadence.pk))
"""

STARTED = """
import json
from workflows.models import Run
run = Run.objects.filter(state__in=["succeeded", "failed"], cadence={cadence}).first()
print(json.dumps(run and (run.started_at - run.due_at).total_seconds()))
"""

POLICY = "security: {actions: {rate_limit_per_minute: 1000000}}\n"


def main() -> int:
    _say(f"items curated a second (normalise, fold, rank, compose): {_median(_curated):,.0f}")
    for database, url in (("SQLite", ""), ("PostgreSQL", machine.postgresql())):
        if database == "SQLite":
            _bench(database, "")
            _bench_queue(database, "")
        elif url:
            with postgresql_database(url) as own:
                _bench(database, own)
            with postgresql_database(url) as own:
                _bench_queue(database, own)
        else:
            _say("PostgreSQL: not found on this machine")
    return 0


def _curated() -> float:
    from workflows.curation import compose, dedupe, rank
    from workflows.curation.normalise import normalise
    from workflows.domain.items import SourceItem

    now = datetime(2026, 11, 23, 9, tzinfo=UTC)
    items = [
        SourceItem(
            external_id=f"id-{number}",
            url=f"https://news.example/{number}?utm_source=bench",
            title=f"Authority {number % 97} fines operator {number} over breach <b>notice</b> 处罚 {number}",
            summary=f"<p>The authority said on day {number % 30} that rules apply.</p> 监管机构表示。" * 6,
            published_at=now - timedelta(minutes=number),
        )
        for number in range(2000)
    ]
    started = time.perf_counter()
    candidates = [
        rank.Candidate(item=normalise(item), source_name=f"s{number % 5}", source_weight=0, id=number)
        for number, item in enumerate(items)
    ]
    ranked = rank.rank(dedupe.fold(candidates), rank.Rules(), now=now)
    compose.compose(ranked, workflow="Bench", kind="update", now=now, time_zone="UTC", language="en")
    return len(items) / (time.perf_counter() - started)


def _bench(database: str, url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        wecom = start(0, data / "wecom", rate_limit=False)
        try:
            port = int(wecom.url.rsplit(":", 1)[1])
            with installed(data / "product", database_url=url, sandbox_port=port) as product:
                policy = data / "policy.yaml"
                policy.write_text(POLICY, encoding="utf-8")
                product.environment["POLICY_FILE"] = str(policy)
                product.ask(SEED)
                bare = _median(lambda: _bare(wecom))
                ours = _median(lambda: float(product.ask(DELIVER)))
                _say(f"{database}: deliveries a second, one worker: {ours:,.0f}; bare requests loop: {bare:,.0f};")
                _say(f"{database}: ratio {ours / bare:.2f}")
                waited = _approval_to_message(product, wecom)
                _say(f"{database}: seconds from approval to the first message: {waited:.2f}")
                claimed = product.ask(CLAIMED)
                p95 = claimed[int(len(claimed) * 0.95)]
                _say(f"{database}: seconds from approval to a claimed delivery, p95 of {len(claimed)}: {p95:.2f}")
                _say(f"{database}: seconds from a due instant to its run, the slowest: {_slowest_start(product):.2f}")
        finally:
            wecom.stop()


def _bench_queue(database: str, url: str) -> None:
    with tempfile.TemporaryDirectory() as folder, installed(Path(folder), database_url=url) as product:
        _say(f"{database}: the queue and the home page")
        command = [sys.executable, "-m", "tests.bench_queue_inside"]
        environment = {**product.environment, "DJANGO_SETTINGS_MODULE": "compliance_bot.settings"}
        subprocess.run(command, cwd=ROOT, env=environment, check=True)


def _bare(wecom: Sandbox) -> float:
    body = {"msgtype": "markdown", "markdown": {"content": "x" * 500}}
    with requests.Session() as session:
        started = time.perf_counter()
        for _ in range(MESSAGES):
            session.post(f"{wecom.url}/cgi-bin/webhook/send?key=bench-robot-key", json=body, timeout=10).json()
        return MESSAGES / (time.perf_counter() - started)


def _approval_to_message(product: Product, wecom: Sandbox) -> float:
    product.start("clock")
    product.start("qcluster")
    taken = []
    for _ in range(ROUNDS):
        last = max((message.n for message in wecom.wecom.messages()), default=0)
        approved = float(product.ask(APPROVE))
        arrived = wait_for(partial(wecom.wecom.messages, after=last), "the message to arrive")
        taken.append(float(arrived[0].at) - approved)
    return statistics.median(taken)


def _slowest_start(product: Product) -> float:
    """The clock and the workers run already."""
    late = []
    for _ in range(ROUNDS):
        cadence = product.ask(DUE)
        late.append(float(wait_for(partial(product.ask, STARTED.format(cadence=cadence)), "the run to have ended")))
    return max(late)


def _median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(ROUNDS))


def _say(sentence: str) -> None:
    sys.stdout.write(sentence + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
