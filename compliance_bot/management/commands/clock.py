"""The clock: looks every second for what is due, so that work starts within two seconds of its instant."""

import logging
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DatabaseError, close_old_connections

from workflows.services import clock, policies

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0


class Command(BaseCommand):
    help = "Start what is due, once a second, until stopped. Several clocks may run; each due instant is taken once."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        signal.signal(signal.SIGINT, lambda *_: stop.set())
        while not stop.wait(TICK_SECONDS):
            try:
                close_old_connections()
                policies.note_policy()
                clock.tick()
            except DatabaseError:
                # The database is restarting; the rows are still due when it is back.
                logger.exception("the clock could not reach the database; trying again")
