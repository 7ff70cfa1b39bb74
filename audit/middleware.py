"""Each request gets an id of our own making, and everything recorded during it carries that id."""

from collections.abc import Callable

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from audit import access
from audit.context import Actor, Cause, caused_by
from compliance_bot.guardrails.clients import client_address


class RequestContextMiddleware:
    """Sets the cause of the request and returns its id as ``X-Request-ID``.

    A client's own ``X-Request-ID`` is ignored: whoever can choose the id can blur the trail.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        address = client_address(request)
        cause = Cause(lambda: Actor.of(request.user), ip=None if address is None else str(address))
        with caused_by(cause):
            response = self.get_response(request)
        response["X-Request-ID"] = str(cause.request_id)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """A denied permission is on the trail; the answer itself stays the framework's."""
        if isinstance(exception, PermissionDenied):
            access.denied(request)
