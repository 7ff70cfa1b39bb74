"""Every configuration that a workflow has had, and what differs between any two."""

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from workflows.admin.base import HouseAdmin
from workflows.domain.configuration import compare
from workflows.models import Workflow, WorkflowVersion

_SHOWN = 200


def history(room: HouseAdmin[Workflow], request: HttpRequest, workflow: Workflow) -> HttpResponse:
    """The versions, and two of them compared: ?from=3&to=7, the last two unless chosen."""
    versions = list(WorkflowVersion.objects.filter(workflow=workflow).defer("content")[:_SHOWN])
    newest = versions[0].number if versions else 0
    after = _chosen(workflow, request.GET.get("to", ""), newest)
    before = _chosen(workflow, request.GET.get("from", ""), newest - 1)
    return room.render_page(
        request,
        "admin/workflows/workflow/versions.html",
        title=_("Configuration history"),
        workflow=workflow,
        versions=versions,
        before=before,
        after=after,
        differences=list(compare(before.content, after.content)) if before and after else [],
        can_read_trail=request.user.has_perm("audit.view_auditevent"),
    )


def _chosen(workflow: Workflow, asked: str, otherwise: int) -> WorkflowVersion | None:
    """The version of this number. None where none was asked for and there is none yet."""
    if asked and not (asked.isascii() and asked.isdecimal() and len(asked) < 10):
        raise Http404
    found = WorkflowVersion.objects.filter(workflow=workflow, number=int(asked) if asked else otherwise).first()
    if asked and found is None:
        raise Http404
    return found
