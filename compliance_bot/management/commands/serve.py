"""The whole product in one command: prepare, start every process, keep them running, stop them in order."""

import io
import os
import secrets
import socket
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from compliance_bot import example, tables
from compliance_bot.supervisor import Process, Supervisor
from workflows.roles import OFFICER
from workflows.services import policies


class Command(BaseCommand):
    help = "Prepare the database and serve web, workers, clock and (in the sandbox) the WeCom stand-in."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (the sandbox: loopback only)")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        if settings.SANDBOX and host not in {"127.0.0.1", "localhost"}:
            raise CommandError("the sandbox listens on 127.0.0.1 only; unset ENVIRONMENT=sandbox to serve others")
        _require_free(host, port)
        if settings.SANDBOX:
            _require_free("127.0.0.1", settings.SANDBOX_PORT)
        self._prepare()
        address = f"http://{host}:{port}"
        if settings.SANDBOX:
            os.environ.setdefault("BASE_URL", address)  # the processes below write links
        supervisor = Supervisor(_processes(host, port), on_ready=lambda: self._say_ready(address), say=self._say)
        supervisor.run(host=host, port=port)

    def _say(self, sentence: str) -> None:
        """At once, also into a pipe or a service's journal."""
        self.stdout.write(sentence)
        self.stdout.flush()

    def _prepare(self) -> None:
        self._say("Preparing the database ...")
        tables.bring_up_to_date()
        call_command("collectstatic", interactive=False, verbosity=0)
        call_command("check", databases=["default"], stdout=io.StringIO())  # it stops the start, or has nothing to say
        policies.note_policy()
        if not User.objects.exists():
            self._make_first_people()

    def _make_first_people(self) -> None:
        """Passwords are shown here, once, and nowhere kept but as hashes."""
        with transaction.atomic():
            passwords = {"admin": secrets.token_urlsafe(12)}
            admin = User.objects.create_superuser("admin", password=passwords["admin"])
            if settings.SANDBOX:
                passwords["officer"] = secrets.token_urlsafe(12)
                officer = User.objects.create_user("officer", password=passwords["officer"], is_staff=True)
                officer.groups.add(Group.objects.get(name=OFFICER))
                example.create(owner=admin)
        width = max(len(name) for name in passwords)
        shown = "\n".join(f"    {name:<{width}}   {password}" for name, password in passwords.items())
        self._say(f"\nSign in with (shown only this once):\n\n{shown}\n")

    def _say_ready(self, address: str) -> None:
        self._say(f"Ready: {address}   (stop with Ctrl-C)")
        if settings.SANDBOX:
            self._say(f"Sandbox: {settings.SANDBOX_URL} shows what the group would receive.")


def _require_free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CommandError(
                f"{host}:{port} cannot be used ({error.strerror}): stop what listens there, or choose another port "
                "(make run PORT=8100 SANDBOX_PORT=8101)."
            ) from error


def _processes(host: str, port: int) -> list[Process]:
    manage = [str(settings.BASE_DIR / "manage.py")]
    gunicorn = [
        "-m",
        "gunicorn",
        "compliance_bot.wsgi",
        f"--bind={host}:{port}",
        "--workers=2",
        "--threads=4",
    ]
    processes = [
        Process("web", [*gunicorn, "--log-level=warning", "--no-control-socket"]),
        Process("clock", [*manage, "clock"]),
        Process("workers", [*manage, "qcluster"]),
    ]
    if settings.SANDBOX:
        data = os.fspath(settings.DATA_DIR / "sandbox")
        back = f"http://{host}:{port}/"
        world = [
            "-m",
            "compliance_bot.sandbox",
            f"--port={settings.SANDBOX_PORT}",
            f"--data={data}",
            f"--back={back}",
        ]
        processes.insert(0, Process("sandbox", world))
    return processes
