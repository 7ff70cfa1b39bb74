"""Builds the search index anew from the events: after a restore, or when a check finds that it has gaps."""

from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction
from django.db.models import Max

from audit import search_index
from audit.models import AuditEvent

_AT_ONCE = 2000


class Command(BaseCommand):
    help = "Empty the search index and build it anew. The trail itself is only read; searches find more and more."

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            search_index.clear()
        newest = AuditEvent.objects.aggregate(pk=Max("pk"))["pk"] or 0
        for above in range(0, newest, _AT_ONCE):
            # What is recorded meanwhile indexes itself, and may stand in this portion.
            with transaction.atomic():
                pks = search_index.missing(above=above, below=above + _AT_ONCE + 1, limit=_AT_ONCE)
                search_index.add(AuditEvent.objects.filter(pk__in=pks))
        self.stdout.write("The search index holds every event.")
