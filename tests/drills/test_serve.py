"""What ``make run`` starts: it stops in order, starts again with its data, and says plainly what stands in the way."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.product import ROOT, Product, free_port, wait_for

pytestmark = pytest.mark.drill


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    product = Product(tmp_path / "data", sandbox_port=free_port())
    yield product
    product.stop_all()


def children(pid: int) -> list[int]:
    """Process ids below ``pid``, from /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(fields[1])
    found, frontier = [], [pid]
    while frontier:
        parent = frontier.pop()
        below = [child for child, of in parents.items() if of == parent]
        found += below
        frontier += below
    return found


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_it_stops_everything_and_starts_again_with_its_data(product: Product) -> None:
    port = str(free_port())
    first = product.start("serve", "--port", port)
    wait_for(lambda: "Ready:" in product.log("serve"), "the first start")
    assert "Sign in with (shown only this once)" in product.log("serve")
    started = children(first.pid)
    assert len(started) >= 6
    # Workers write their titles over theirs, but all have the same one.
    assert any(f"BASE_URL=http://127.0.0.1:{port}\0".encode() in environment(pid) for pid in started)

    first.send_signal(signal.SIGTERM)
    assert first.wait(40) == 0
    wait_for(lambda: not [pid for pid in started if alive(pid)], "every process gone", patience=20)

    product.start("serve", "--port", port)
    wait_for(lambda: product.log("serve").count("Ready:") == 2, "the second start")
    assert product.log("serve").count("Sign in with") == 1
    assert product.ask("import json; from workflows.models import Run; print(json.dumps(Run.objects.count()))") == 1


def test_a_child_that_dies_is_started_again(product: Product) -> None:
    serve = product.start("serve", "--port", str(free_port()))
    wait_for(lambda: "Ready:" in product.log("serve"), "the start")
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(serve.pid)}
    (clock,) = [pid for pid, command in commands.items() if command.endswith(b"manage.py\0clock\0")]
    os.kill(clock, signal.SIGKILL)
    wait_for(lambda: "clock stopped (exit -9); starting it again." in product.log("serve"), "the clock's return")


def test_a_taken_port_is_one_line_with_a_remedy(product: Product) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        serve = product.start("serve", "--port", port)
        assert serve.wait(60) == 1
    (line,) = product.log("serve").strip().splitlines()
    assert line.startswith(f"CommandError: 127.0.0.1:{port} cannot be used (Address already in use): stop what listens")


def test_the_sandbox_refuses_to_be_served_to_others(product: Product) -> None:
    assert product.start("serve", "--host", "0.0.0.0").wait(60) == 1  # noqa: S104 - refused, which is the point
    assert "the sandbox listens on 127.0.0.1 only" in product.log("serve")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"ENVIRONMENT": "sandbx"}, "ENVIRONMENT: 'sandbx' is not one of production, sandbox"),
        ({"SANDBOX_PORT": "many"}, "SANDBOX_PORT: 'many' is not a whole number"),
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL: not a database address"),
        ({"BEHIND_TLS_PROXY": "maybe"}, "BEHIND_TLS_PROXY: 'maybe' is neither true nor false"),
        ({"SECRET_KEY_FILE": "/nowhere"}, "SECRET_KEY_FILE: cannot read /nowhere"),
    ],
)
def test_a_wrong_variable_is_named(product: Product, environment: dict[str, str], said: str) -> None:
    command = [sys.executable, "manage.py", "check"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**product.environment, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr


def test_the_sandbox_is_refused_where_the_product_has_other_names(product: Product) -> None:
    product.environment["ALLOWED_HOSTS"] = "compliance.example"
    with pytest.raises(AssertionError, match=r"ENVIRONMENT=sandbox, but ALLOWED_HOSTS names compliance\.example"):
        product.manage("check")


def test_a_policy_that_cannot_be_read_stops_the_start(product: Product, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("security: {actoins: {}}", encoding="utf-8")
    product.environment["POLICY_FILE"] = str(policy)
    with pytest.raises(AssertionError, match=r"security\.actoins: unknown key"):
        product.manage("check")
