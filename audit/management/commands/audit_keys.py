"""The keys that sign the audit trail's seals: show the public ones, or put a new one into use."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from audit import keys
from audit.recorder import record
from audit.vocabulary import TrailEvent


class Command(BaseCommand):
    help = "Print the public keys, newest first, as PEM; with --rotate make a new one first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--rotate", action="store_true", help="put a new key into use; old seals stay verifiable")

    def handle(self, *args: Any, rotate: bool, **options: Any) -> None:
        if rotate:
            _rotate()
        for name, key in keys.public_keys().items():
            self.stdout.write(f"# {name}\n{keys.pem(key)}")


def _rotate() -> None:
    old = next(iter(keys.public_keys()), "")
    with transaction.atomic():
        new = keys.key_id(keys.rotate().public_key())
        record(TrailEvent.KEY_ROTATED, facts={"old": old, "new": new})
