"""The product as real processes, with a data folder and a database of its own."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0


class Product:
    """Commands of one installation; ``stop_all`` ends what it started."""

    def __init__(self, data: Path, *, database_url: str = "", sandbox_port: int = 8001) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.data = data
        self.environment = {
            **inherited,
            "ENVIRONMENT": "sandbox",
            "DATA_DIR": str(data),
            "SANDBOX_PORT": str(sandbox_port),
            **({"DATABASE_URL": database_url} if database_url else {}),
        }
        self._running: list[subprocess.Popen[str]] = []

    def manage(self, *arguments: str) -> str:
        """Run a management command to its end; its output."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, script: str) -> Any:
        """Run Python inside the product and read the JSON that it prints last."""
        return json.loads(self.manage("shell", "--no-imports", "-c", script).strip().splitlines()[-1])

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a management command in a process group of its own; its output goes to a file in ``data``."""
        self.data.mkdir(parents=True, exist_ok=True)
        with (self.data / f"{arguments[0]}.log").open("a", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.data / f"{name}.log").read_text(encoding="utf-8")

    def kill(self, process: subprocess.Popen[str]) -> None:
        """SIGKILL to the process and everything that it started: nobody can tidy up."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop_all(self) -> None:
        """By their main process ids, as a service manager does."""
        for process in self._running:
            if process.poll() is None:
                process.terminate()
        for process in self._running:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def installed(data: Path, *, database_url: str = "", sandbox_port: int = 8001) -> Iterator[Product]:
    """A migrated product; stopped at the end, whatever happens."""
    product = Product(data, database_url=database_url, sandbox_port=sandbox_port)
    try:
        product.manage("migrate", "--verbosity=0")
        product.manage("createcachetable")
        yield product
    finally:
        product.stop_all()


@contextmanager
def postgresql_database(server: str) -> Iterator[str]:
    """An empty database on ``server``; its address. Dropped at the end."""
    name = f"compliance_bot_drill_{secrets.token_hex(4)}"
    base = server.rsplit("/", 1)[0]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        yield f"{base}/{name}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], Any], why: str, patience: float = PATIENCE) -> Any:
    """Ask until the answer is true; its value. Fails with ``why`` when patience runs out."""
    deadline = time.monotonic() + patience
    pause, bell = 0.05, threading.Event()
    while time.monotonic() < deadline:
        with suppress(OSError):
            if answer := what():
                return answer
        bell.wait(pause)
        pause = min(pause * 1.5, 1.0)
    raise AssertionError(f"waited {patience:.0f} s in vain: {why}")
