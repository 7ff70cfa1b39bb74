"""The kill switch for when the pages cannot be reached."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from workflows.domain.errors import WorkflowError
from workflows.management.switch import add_switch_arguments, person_named, target_named
from workflows.services import pauses


class Command(BaseCommand):
    help = "Pause all sending, or that of one channel or workflow. Calls that are being made still end."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_switch_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        by, target = person_named(options["as"]), target_named(options)
        try:
            paused = pauses.pause_from_shell(by=by, reason=options["reason"], target=target)
        except WorkflowError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Paused: {paused}.")
