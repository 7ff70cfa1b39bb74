"""Starts processes, starts again what dies, and stops them by their own process ids.

django-q2's cluster hangs when its whole group is signalled at once, so each child leads a group of its own and only its
leader is told to stop.
"""

import ctypes
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_STOP_SECONDS = 20
_RESTARTS_A_MINUTE = 5
_POLL_SECONDS = 0.2
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Process:
    """A child: its name for people, and the arguments after the Python interpreter."""

    name: str
    arguments: Sequence[str]


class Supervisor:
    def __init__(
        self, processes: Sequence[Process], *, on_ready: Callable[[], None], say: Callable[[str], object]
    ) -> None:
        self._processes = processes
        self._on_ready = on_ready
        self._say = say
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._restarts: dict[str, list[float]] = {process.name: [] for process in processes}
        self._stopping = threading.Event()

    def run(self, *, host: str, port: int) -> None:
        """Until SIGTERM or SIGINT, or until a child cannot be kept running. Ready is when the web server answers."""
        signal.signal(signal.SIGTERM, lambda *_: self._stopping.set())
        signal.signal(signal.SIGINT, lambda *_: self._stopping.set())
        waiting = True
        try:
            for process in self._processes:
                self._start(process)
            while not self._stopping.wait(_POLL_SECONDS):
                if waiting and _answers(host, port):
                    waiting = False
                    self._on_ready()
                self._restart_dead()
        finally:
            self._stop_all()

    def _start(self, process: Process) -> None:
        self._running[process.name] = subprocess.Popen(  # noqa: S603 - our own commands
            [sys.executable, *process.arguments], start_new_session=True, preexec_fn=_die_with_parent
        )

    def _restart_dead(self) -> None:
        for process in self._processes:
            code = self._running[process.name].poll()
            if code is None or self._stopping.is_set():
                continue
            now = time.monotonic()
            recent = [instant for instant in self._restarts[process.name] if instant > now - 60]
            if len(recent) >= _RESTARTS_A_MINUTE:
                self._say(f"{process.name} keeps stopping (exit {code}); giving up. Its last words are above.")
                self._stopping.set()
                return
            self._restarts[process.name] = [*recent, now]
            self._say(f"{process.name} stopped (exit {code}); starting it again.")
            self._start(process)

    def _stop_all(self) -> None:
        self._say("Stopping ...")
        for child in self._running.values():
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for child in self._running.values():
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def _die_with_parent() -> None:
    """Runs in the child: should the supervisor be killed, its children are told to stop (Linux)."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _answers(host: str, port: int) -> bool:
    """Whether a web server speaks there; in production it may well answer "wrong host" or "use https"."""
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
