"""``python -m tests.bench_delivery``: sending to many, as ratios in one run where a ratio makes sense.

Ten thousand webhooks beside a bare pool of threads that makes the same POSTs with no database; an application's
message to ten thousand members; what enqueueing and sending to a hundred thousand takes; a robot's allowance.
"""

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import local

import requests

from compliance_bot.sandbox import start
from tests import machine
from tests.product import Product, installed, postgresql_database, wait_for

WEBHOOKS = 10_000
MEMBERS = 10_000
MANY = 100_000
WIDTH = 16
ROUNDS = 3
ROBOT_MINUTES = 3
KILLS = 300

POLICY = "security: {actions: {rate_limit_per_minute: 1000000, require_approval_for: []}}\n"

SEED = """
import json
from django.conf import settings
from django.contrib.auth.models import User
from workflows.models import *
from workflows.services import secrets
author, _ = User.objects.get_or_create(username="author", is_superuser=True, is_staff=True)
def channel(kind, config, values, per_minute):
    made = Channel.objects.create(name=kind, kind=kind, config=config, per_minute=per_minute)
    for field, value in values.items():
        stored = SecretRef.objects.create(name=f"{kind}-{field}".replace("_", "-"), owner=author)
        secrets.store(secret=stored, value=value, by=author)
        ChannelSecret.objects.create(channel=made, field=field, secret=stored)
    return made
url = settings.SANDBOX_URL
channel("webhook", {"recognises_repetitions": False}, {"url": url + "/hook", "signing_key": "k" * 32}, 60_000)
app = {"base_url": url, "corp_id": "ww5823bf96d3bd56c7", "agent_id": 1000002, "form": "markdown"}
channel("wecom_app", app, {"corp_secret": "s" * 40}, 600)
robot = channel("wecom_robot", {"base_url": url, "form": "markdown", "mentions": ""}, {"key": "bench-robot-key"}, 20)
print(json.dumps(True))
"""

# Prints the message and how long it took to write and to release it.
RELEASE = """
import json, time
from django.contrib.auth.models import User
from workflows.models import *
from workflows.services import messages
author, channel = User.objects.get(username="author"), Channel.objects.get(kind="{kind}")
audience = Audience.objects.create(name=f"{{time.time()}}")
AudienceMember.objects.bulk_create((
    AudienceMember(audience=audience, channel=channel, label=f"user{{n}}", address=f"user{{n}}", is_group=False, size=1)
    for n in range({size})
), batch_size=1000)
message = Message(subject="Bench", body="x" * 500, audience=audience, reason="Bench")
messages.write(message=message, by=author)
began = time.perf_counter()
messages.submit(message_id=message.pk, by=author)
print(json.dumps([message.pk, time.perf_counter() - began]))
"""

# Waits for the start, then sends until nothing is left; prints the seconds and how much memory it grew by (MiB).
WORK = """
import json, resource, sys, time
from pathlib import Path
from workflows.models import *
from workflows.services import delivery
message = Message.objects.get(pk={message})
held = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
before = peak = held()
while not Path({go!r}).exists():
    time.sleep(0.005)
began = time.perf_counter()
while Delivery.objects.filter(message=message, state__in=["queued", "waiting", "sending"]).exists():
    if not delivery.dispatch(message.pk):
        time.sleep(0.01)
    peak = max(peak, held())
print(json.dumps([time.perf_counter() - began, peak - before]))
"""

COUNTS = """
import json
from django.db.models import Count
from workflows.models import *
print(json.dumps(dict(Delivery.objects.filter(message={message}).order_by().values_list("state").annotate(Count("pk")))))
"""

PACED = """
import json
from django.contrib.auth.models import User
from django.utils import timezone
from workflows.models import *
from workflows.services import messages
author, channel = User.objects.get(username="author"), Channel.objects.get(kind="wecom_robot")
audience = Audience.objects.create(name="Paced")
AudienceMember.objects.create(audience=audience, channel=channel, label="Group", size=3)
message = Message(subject="Bench", body="x", audience=audience, reason="Bench")
messages.write(message=message, by=author)
message = messages.submit(message_id=message.pk, by=author)
first = message.deliveries.get()
common = dict(message=message, channel=channel, channel_fingerprint=first.channel_fingerprint, part=first.part)
Delivery.objects.bulk_create(
    Delivery(**common, recipient="R", address=str(n), not_before=timezone.now()) for n in range({wanted} - 1)
)
print(json.dumps(message.pk))
"""


# By the key that the receiver saw: what became of it.
KEYS = """
import json
from workflows.models import Delivery
from workflows.services import ledger
rows = Delivery.objects.filter(message={message}).select_related("message")
print(json.dumps([[ledger._key(row.message, row), row.state] for row in rows.iterator()]))
"""

# A worker that finds nothing locked to itself ends; leases of the dead run out.
SETTLE = """
import json
from datetime import timedelta
from django.utils import timezone
from workflows.models import Delivery
from workflows.services import ledger, outcomes
later = timezone.now() + ledger.LEASE
while rows := list(outcomes.abandoned(later)[:500]):
    for row in rows:
        outcomes.give_up(row, later)
print(json.dumps(True))
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        _both(Path(folder))
    return 0


def _both(folder: Path) -> None:
    _bench("SQLite", "", "", folder / "sqlite")
    if url := machine.postgresql():
        with postgresql_database(url) as one, postgresql_database(url) as other:
            _bench("PostgreSQL", one, other, folder / "postgresql")
    else:
        _say("PostgreSQL: not found on this machine")


def _bench(database: str, url: str, other_url: str, folder: Path) -> None:
    folder.mkdir()
    with _sink(folder) as port, _product(folder / "webhooks", url, port) as product:
        bare = statistics.median(_bare(port) for _ in range(ROUNDS))
        rounds = [_sent(product, folder, "webhook", WEBHOOKS, workers=2)[0] for _ in range(ROUNDS)]
        ours = WEBHOOKS / statistics.median(rounds)
        _say(f"{database}: {WEBHOOKS:,} webhooks, two workers: {ours:,.0f}/s; {WIDTH} bare threads: {bare:,.0f}/s")
        _say(f"{database}: ratio {ours / bare:.2f}")
        _say(f"{database}: {KILLS} kill -9 over a running send: {_killed(product, folder)}")
    wecom = start(0, folder / "wecom", rate_limit=False)
    try:
        with _product(folder / "app", other_url, int(wecom.url.rsplit(":", 1)[1])) as product:
            seconds, _ = _sent(product, folder, "wecom_app", MEMBERS, workers=1)
            calls = sum(wecom.company.calls.values())
            _say(f"{database}: an application's message to {MEMBERS:,} members: {calls} calls, {seconds:.1f} s")
            message, released = product.ask(RELEASE.format(kind="wecom_app", size=MANY))
            _say(f"{database}: enqueueing {MANY:,} recipients: {released:.1f} s")
            seconds, grown = _work(product, folder, message, workers=1)
            _say(f"{database}: sending to them: {seconds:.0f} s, a worker grows by {grown:.0f} MiB")
            before = len(wecom.wecom.messages())
            message = product.ask(PACED.format(wanted=20 * ROBOT_MINUTES))
            _work(product, folder, message, workers=3)
            at = [sent.at for sent in wecom.wecom.messages()[before:]]
            used = (len(at) - 20) / ((at[-1] - at[0]) / 60 * 20)
            most = max(sum(0 <= other - one < 60 for other in at) for one in at)
            _say(f"{database}: a robot with 20 a minute, three workers: {used:.0%} of its allowance")
            _say(f"{database}: and {most} messages in its fullest minute")
    finally:
        wecom.stop()


def _killed(product: Product, folder: Path) -> str:
    """Workers of one send, each killed at some moment of it; then what the receiver saw against what we say."""
    message, _released = product.ask(RELEASE.format(kind="webhook", size=MANY))
    log, go = folder / "received", folder / "go-kill"
    before = log.stat().st_size
    go.touch()
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", WORK.format(message=message, go=str(go))]
    luck = random.Random(20261127)  # noqa: S311 - moments of death
    for _ in range(KILLS):
        size = log.stat().st_size
        process = subprocess.Popen(command, env=product.environment, stdout=subprocess.DEVNULL)
        while log.stat().st_size == size and process.poll() is None:
            time.sleep(0.01)
        time.sleep(luck.uniform(0, 0.2))
        process.kill()
        process.wait()
    product.ask(SETTLE)
    with log.open("rb") as lines:
        lines.seek(before)
        arrived = Counter(lines.read().decode().split())
    rows = dict(product.ask(KEYS.format(message=message)))
    lost = sum(state == "sent" and key not in arrived for key, state in rows.items())
    doubled = sum(times > 1 for times in arrived.values())
    untold = sum(rows[key] not in {"sent", "unknown"} for key in arrived)
    states = Counter(rows.values())
    told = f"{states['sent']:,} sent, {states['unknown']:,} unknown"
    return f"lost {lost}, doubled {doubled}, arrived and not told {untold}; {told}"


@contextmanager
def _product(data: Path, url: str, port: int) -> Iterator[Product]:
    with installed(data, database_url=url, sandbox_port=port) as product:
        policy = data / "policy.yaml"
        policy.write_text(POLICY, encoding="utf-8")
        product.environment["POLICY_FILE"] = str(policy)
        product.ask(SEED)
        yield product


@contextmanager
def _sink(folder: Path) -> Iterator[int]:
    told = folder / "port"
    process = subprocess.Popen([sys.executable, "-m", "tests.sink", str(told), str(folder / "received")])
    try:
        yield int(wait_for(lambda: told.exists() and told.read_text(), "the sink to listen"))
    finally:
        process.terminate()
        process.wait()


def _sent(product: Product, folder: Path, kind: str, size: int, *, workers: int) -> tuple[float, float]:
    """Seconds until all were sent, and MiB by which the largest worker grew."""
    message, _released = product.ask(RELEASE.format(kind=kind, size=size))
    took = _work(product, folder, message, workers=workers)
    counts = product.ask(COUNTS.format(message=message))
    assert counts == {"sent": size}, counts
    return took


def _work(product: Product, folder: Path, message: int, *, workers: int) -> tuple[float, float]:
    go = folder / f"go-{message}"
    script = WORK.format(message=message, go=str(go))
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", script]
    running = [
        subprocess.Popen(command, env=product.environment, stdout=subprocess.PIPE, text=True) for _ in range(workers)
    ]
    time.sleep(3)  # all have started and wait for the file
    go.touch()
    told = [json.loads(process.communicate()[0].strip().splitlines()[-1]) for process in running]
    return max(seconds for seconds, _ in told), max(grown for _, grown in told)


def _bare(port: int) -> float:
    body: dict[str, object] = {
        "markdown": "x" * 500,
        "title": "Bench",
        "entries": [],
        "attachments": [],
        "digest": None,
    }
    mine = local()

    def post(number: int) -> None:
        if not hasattr(mine, "session"):
            mine.session = requests.Session()
        reply = mine.session.post(
            f"http://127.0.0.1:{port}/hook", json={**body, "recipient": f"user{number}"}, timeout=10
        )
        reply.json()

    with ThreadPoolExecutor(WIDTH) as pool:
        started = time.perf_counter()
        list(pool.map(post, range(WEBHOOKS)))
        return WEBHOOKS / (time.perf_counter() - started)


def _say(sentence: str) -> None:
    sys.stdout.write(sentence + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
