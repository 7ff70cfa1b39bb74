"""Erases personal details that events keep, on a person's request; the events themselves stay."""

import uuid
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit import erasure
from audit.proof import Broken


class Command(BaseCommand):
    help = "Erase the encrypted details of one event, or of every event about one object. What is on hold is refused."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("object", nargs="?", metavar="OBJECT", help="kind:id, such as workflows.message:7")
        which.add_argument("--event", type=uuid.UUID, help="the id of one event")
        parser.add_argument("--reason", required=True, help="why; the trail keeps it")

    def handle(self, *args: Any, event: uuid.UUID | None, reason: str, **options: Any) -> None:
        kind, colon, pk = (options["object"] or "").partition(":")
        if event is None and not (kind and colon and pk):
            raise CommandError("Name the object as kind:id, such as workflows.message:7.")
        try:
            erased = erasure.erase(erasure.About(event_id=event, target_type=kind, target_id=pk), reason)
        except (erasure.ErasureRefused, Broken) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Erased the details of {erased} events.")
