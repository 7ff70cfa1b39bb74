"""Proves that an exported file is what the trail says was exported, and that the trail still says the same."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit import proof
from audit.export.comparison import Tally
from audit.export.verification import verify


class Command(BaseCommand):
    help = "Verify an exported CSV, JSON Lines or ZIP file against the trail. Exit code 1 when it differs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        tally = Tally()
        try:
            manifest = verify(file, tally)
        except OSError as error:
            raise CommandError(f"{error.filename or file} cannot be read ({error.strerror}).") from error
        except (proof.Broken, UnicodeDecodeError) as error:
            raise CommandError(f"{file}: {error}") from error
        self._say(tally)
        complete = "complete" if manifest["complete"] else "NOT complete: it broke off"
        query = manifest["query"] or "everything"
        self.stdout.write(f"{manifest['rows']} rows as exported; {complete}. Query: {query}")

    def _say(self, tally: Tally) -> None:
        """What a reader has to know beside the result."""
        if tally.unsealed:
            self.stdout.write(f"{tally.unsealed} rows are not sealed yet; their MACs speak for them.")
        if tally.purged:
            grants = ", ".join(map(str, sorted(tally.grants)))
            self.stdout.write(
                f"{tally.purged} rows were purged since, under grant {grants}; the archive says the same."
            )
        if tally.unproved:
            self.stdout.write(
                f"{tally.unproved} rows were purged and their archive has been removed; "
                "only the file's digest speaks for them."
            )
