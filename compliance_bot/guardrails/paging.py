"""Lists that stay fast on big tables."""

from typing import Any

from django.core.paginator import Paginator
from django.db import DataError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.functional import cached_property

COUNT_LIMIT = 10_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than COUNT_LIMIT: a COUNT(*) over a big table costs more than the page it is for."""

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows)
        return rows.order_by()[: COUNT_LIMIT + 1].count()


class CalmList:
    """For a ModelAdmin: an address with an impossible filter shows the list and says so, on every database."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        try:
            if "%00" in request.GET.urlencode():
                raise ValueError("NUL in a filter")
            response: HttpResponse = super().changelist_view(request, extra_context)  # type: ignore[misc]
        except (ValueError, OverflowError, DataError):
            return HttpResponseRedirect(f"{request.path}?e=1")
        return response
