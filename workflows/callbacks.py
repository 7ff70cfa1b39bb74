"""``/wecom/<app>/callback``: where WeCom calls us. It answers at once, and says nothing to anybody else."""

import logging

from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from workflows.services import inbound
from workflows.services.inbound import Delivered, NotTrusted

logger = logging.getLogger(__name__)

_MOST_BYTES = 64 * 1024


@csrf_exempt
@require_http_methods(["GET", "POST"])
def callback(request: HttpRequest, app: str) -> HttpResponse:
    """GET: WeCom asks whether the address is ours. POST: an event. Whoever is not WeCom learns nothing but 403."""
    try:
        if request.method == "GET":
            plain = inbound.verify(app, _delivered(request, request.GET.get("echostr", "")), timezone.now())
            return HttpResponse(plain, content_type="text/plain; charset=utf-8")
        inbound.receive(app, _delivered(request, inbound.ciphertext_of(_body(request))), timezone.now())
    except NotTrusted as error:
        logger.warning("a callback was refused: %s", error)
        return HttpResponseForbidden()
    return HttpResponse()


def _body(request: HttpRequest) -> bytes:
    """The body, if it is small; a longer one is not even read."""
    length = request.headers.get("Content-Length", "")
    if not length.isdecimal() or int(length) > _MOST_BYTES:
        raise NotTrusted("too long, or of unknown length")
    return request.body


def _delivered(request: HttpRequest, ciphertext: str) -> Delivered:
    return Delivered(
        signature=request.GET.get("msg_signature", ""),
        timestamp=request.GET.get("timestamp", ""),
        nonce=request.GET.get("nonce", "")[:128],
        ciphertext=ciphertext,
    )
