"""From the product to its sandbox; there is no such page in production."""

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponseRedirect


def enter(request: HttpRequest) -> HttpResponseRedirect:
    if not settings.SANDBOX:
        raise Http404
    return HttpResponseRedirect(settings.SANDBOX_URL)
