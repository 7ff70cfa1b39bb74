"""Proves the audit trail, or names what is wrong with it, the first bad row first."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit.verification import Tally, verify_and_record


class Command(BaseCommand):
    help = "Verify every event, seal and checkpoint of the audit trail. Exit code 1 when something is wrong."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--most", type=int, default=100, help="stop after so many problems (default 100)")

    def handle(self, *args: Any, most: int, **options: Any) -> None:
        tally = Tally()
        problems = verify_and_record(tally, most)
        for problem in problems:
            self.stdout.write(f"{problem.where}: {problem.what}")
        counts = {"events": tally.events, "seals": tally.seals}
        counts |= {"purged under a grant": tally.purged, "without their details": tally.erased}
        looked = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        if problems:
            raise CommandError(f"The audit trail is NOT intact ({looked} looked at). First: {problems[0].where}.")
        self.stdout.write(f"The audit trail is intact: {looked}.")
