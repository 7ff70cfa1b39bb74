"""``/feeds/workflows/<id>/digests.atom`` and ``.json``: what was released, for feed readers and programs."""

from collections.abc import Sequence

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.utils.feedgenerator import Atom1Feed
from django.utils.http import http_date, quote_etag
from django.views.decorators.http import require_safe

from workflows.curation import compose
from workflows.domain import markup
from workflows.models import Digest
from workflows.services import feeds


@require_safe
def digests(request: HttpRequest, pk: int, form: str) -> HttpResponse:
    """The newest digests. Without the feed's token there is nothing here."""
    found = feeds.read(pk, _token(request))
    if found is None:
        raise Http404
    rows = list(found)
    newest = max((row.created_at for row in rows), default=None)
    etag = quote_etag(f"{pk}-{rows[0].pk if rows else 0}-{len(rows)}")
    last_modified = int(newest.timestamp()) if newest else None
    response = get_conditional_response(request, etag, last_modified)
    if not isinstance(response, HttpResponseNotModified):
        response = _atom(rows, pk) if form == "atom" else _json(rows)
        response["ETag"] = etag
        if last_modified is not None:
            response["Last-Modified"] = http_date(last_modified)
    response["Cache-Control"] = "private, no-cache"
    return response


def _token(request: HttpRequest) -> str:
    scheme, _space, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.GET.get("token", "")


def _json(rows: Sequence[Digest]) -> HttpResponse:
    return JsonResponse({"digests": [row.content for row in rows]}, json_dumps_params={"ensure_ascii": False})


def _atom(rows: Sequence[Digest], pk: int) -> HttpResponse:
    title = str(rows[0].workflow) if rows else f"{pk}"
    page = settings.BASE_URL + reverse("admin:workflows_digest_changelist")
    feed = Atom1Feed(title=title, link=page, description="", feed_guid=f"urn:compliance-bot:workflow:{pk}")
    for row in rows:
        content = compose.render(row.content)
        feed.add_item(
            title=markup.to_plain(content.title),
            link=settings.BASE_URL + reverse("admin:workflows_digest_change", args=[row.pk]),
            description="".join(markup.to_html(block) for block in content.blocks),
            unique_id=f"urn:compliance-bot:digest:{row.pk}",
            pubdate=row.created_at,
            updateddate=row.created_at,
            author_name=title,
        )
    return HttpResponse(feed.writeString("utf-8"), content_type="application/atom+xml; charset=utf-8")
