"""Shows what would leave the audit trail's table now; with --purge it does."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from audit import retention
from audit.archive import ArchiveError


class Command(BaseCommand):
    help = "Show what is past its limit, by retention class; with --purge archive and delete it, and expire archives."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--purge", action="store_true", help="do it, not only show it")

    def handle(self, *args: Any, purge: bool, **options: Any) -> None:
        now = timezone.now()
        for row in retention.preview(now):
            oldest = f"oldest {row.oldest:%Y-%m-%d}" if row.oldest else "none"
            self.stdout.write(
                f"{row.name}: {row.days} days, before {row.before:%Y-%m-%d %H:%M} UTC: "
                f"{_bounded(row.due)} to purge, {_bounded(row.held)} on hold; {oldest}"
            )
        if not purge:
            return
        try:
            retention.purge(now)
        except ArchiveError as error:
            raise CommandError(str(error)) from error
        retention.expire_archives(now)
        self.stdout.write("Done: what was due is in the archive.")


def _bounded(count: int) -> str:
    return f"more than {retention.COUNT_LIMIT}" if count > retention.COUNT_LIMIT else str(count)
