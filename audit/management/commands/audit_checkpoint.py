"""The audit trail's newest checkpoint; or a saved one, compared with the trail as it is now."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit import checkpoints


class Command(BaseCommand):
    help = "Print the newest checkpoint. With FILE: say whether the trail still has what that checkpoint says."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, help="a saved checkpoint; the mail it came in will do")

    def handle(self, *args: Any, file: Path | None, **options: Any) -> None:
        if file is not None:
            self._compare(file)
        elif (note := checkpoints.newest()) is not None:
            self.stdout.write(note, ending="")
        else:
            raise CommandError("There is no checkpoint yet: nothing is sealed.")

    def _compare(self, file: Path) -> None:
        try:
            saved = checkpoints.read(file.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            raise CommandError(f"{file} cannot be read ({error.strerror}).") from error
        except checkpoints.NotACheckpoint as error:
            raise CommandError(f"{file}: {error}") from error
        if not checkpoints.is_intact(saved):
            raise CommandError(f"Seal {saved.n} is another one now, or gone: the trail was REPLACED or cut off.")
        self.stdout.write(
            f"Intact: seal {saved.n} with its {saved.size} events is the one of the checkpoint."
            " verify_audit proves the events themselves."
        )
