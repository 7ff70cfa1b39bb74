"""Lifts a pause for when the pages cannot be reached."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from workflows.domain.errors import WorkflowError
from workflows.management.switch import add_switch_arguments, person_named, target_named
from workflows.services import pauses


class Command(BaseCommand):
    help = "Resume sending: lift the pause of everything, or of one channel or workflow. What was held is sent."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_switch_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        by, target = person_named(options["as"]), target_named(options)
        paused = pauses.of(target)
        if paused is None:
            raise CommandError(f"Not paused: {target or 'all sending'}.")
        try:
            pauses.resume_from_shell(pause_id=paused.pk, by=by, reason=options["reason"])
        except WorkflowError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Resumed: {paused}.")
