"""The entrance of every admin page that writes: what needs a second person is taken back and asked for instead."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.contrib.messages.storage import default_storage
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from workflows.admin.base import change_url, person
from workflows.domain.changes import ChangeSet
from workflows.domain.errors import WorkflowError
from workflows.services import changes

View = Callable[..., HttpResponseBase]
_SALT = "workflows.changes"
_HOLDS_SECONDS = 30 * 60


def writes_no_configuration(view: View) -> View:
    """For pages that work for long, or keep something whatever becomes of the rest: they run outside a transaction.

    They must not write what is watched; a test knows them all.
    """
    view.runs_unwatched = True  # type: ignore[attr-defined]
    return view


def under_approval(view: View) -> View:
    """Let a POST run, and ask for a second person where what it wrote needs one: then nothing of it stays."""

    @wraps(view)
    def watched(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method != "POST" or not isinstance(request.user, User) or hasattr(view, "runs_unwatched"):
            return view(request, *args, **kwargs)
        session = request.session.session_key
        response: HttpResponseBase | None = None
        refused: Exception | None = None
        with changes.watched(request.user) as found:
            try:
                response = view(request, *args, **kwargs)
            except (PermissionDenied, Http404) as error:
                refused = error  # raised after the commit: what the page recorded of it stays
        if refused is not None:
            raise refused
        if found.needs is None:
            assert response is not None  # noqa: S101 - a view returns or raises
            return response
        request.session = type(request.session)(session)  # one that was made inside is gone
        request._messages = default_storage(request)  # type: ignore[attr-defined]  # "was changed" is not true
        return ask_page(request, found.needs)

    watched.is_watched = True  # type: ignore[attr-defined]  # for the test that looks at every page
    return watched


def ask_page(request: HttpRequest, needs: ChangeSet, reason: str = "") -> TemplateResponse:
    """What would change, field by field, and a reason to be given. The changes come back with the form, signed."""
    kinds = changes.needing_approval(needs)
    held = signing.dumps({**needs.dump(), "for": person(request).pk}, salt=_SALT, compress=True)
    return TemplateResponse(
        request,
        "admin/workflows/changes/ask.html",
        {
            **admin.site.each_context(request),
            "title": _("This needs a second person"),
            "kinds": [kind.label for kind in kinds],
            "shown": changes.described(needs),
            "held": held,
            "reason": reason,
            "back": request.path,
        },
    )


def ask(request: HttpRequest) -> HttpResponse:
    """POST: the changes that the form carries become a request."""
    by = person(request)
    try:
        held = signing.loads(request.POST.get("held", ""), salt=_SALT, max_age=_HOLDS_SECONDS)
    except signing.BadSignature:
        messages.error(request, _("This form is too old. Make the change again."))
        return HttpResponseRedirect(reverse("admin:index"))
    if held.pop("for") != by.pk:
        raise PermissionDenied
    needs, reason = ChangeSet.load(held), request.POST.get("reason", "")
    try:
        approval = changes.ask(needs, by=by, reason=reason)
    except WorkflowError as error:
        messages.error(request, str(error))
        return ask_page(request, needs, reason)
    messages.success(request, _("Asked: nothing has changed yet. A second person decides now."))
    return HttpResponseRedirect(change_url(approval))
