"""Each request gets an id of our own making, and everything recorded during it carries that id."""

import ipaddress
from collections.abc import Callable

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from audit.context import Actor, Cause, caused_by
from audit.recorder import Outcome, record
from audit.vocabulary import AccessEvent


def _address(request: HttpRequest) -> str | None:
    """As the database keeps it, so that text and column say the same: without the scope of a link-local one."""
    try:
        return str(ipaddress.ip_address(request.META.get("REMOTE_ADDR", "").partition("%")[0]))
    except ValueError:
        return None


class RequestContextMiddleware:
    """Sets the cause of the request and returns its id as ``X-Request-ID``.

    A client's own ``X-Request-ID`` is ignored: whoever can choose the id can blur the trail.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        cause = Cause(lambda: Actor.of(request.user), ip=_address(request))
        with caused_by(cause):
            response = self.get_response(request)
        response["X-Request-ID"] = str(cause.request_id)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """A denied permission is on the trail; the answer itself stays the framework's."""
        if isinstance(exception, PermissionDenied):
            with transaction.atomic():
                record(AccessEvent.DENIED, outcome=Outcome.REFUSED, facts={"path": request.path})
