"""The evidence of a request: a page to read and print, and a bundle that proves itself."""

from typing import Any, Final

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from workflows import actions
from workflows.admin.base import ReadOnlyAdmin, badge, person
from workflows.domain.errors import NotPermitted
from workflows.models import ApprovalRequest
from workflows.services import evidence, evidence_bundle

# Entries of each list in a preview on the page; the bundle holds all of them.
_MOST: Final = 200


class EvidenceAdmin(ReadOnlyAdmin[ApprovalRequest]):
    """Whoever may look at a request may open its evidence, and sees as much of it as their role includes."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<int:pk>/evidence/", view(self.evidence), name="workflows_approvalrequest_evidence"),
            path("<int:pk>/evidence.json", view(self.evidence_file), name="workflows_approvalrequest_evidence_file"),
            *super().get_urls(),
        ]

    def evidence(self, request: HttpRequest, pk: int) -> HttpResponse:
        approval = self.find(request, pk)
        kind = actions.registry.get(approval.action)
        page = evidence.view(approval=approval, by=person(request))
        preview = _shortened(approval.preview)
        return self.render_page(
            request,
            "admin/workflows/approvalrequest/evidence.html",
            approval=approval,
            badge=badge(approval.state, approval.get_state_display()),
            action_label=kind.label,
            reach=kind.in_words(approval.size),
            page=page,
            evidence=page.evidence,
            preview=preview,
            is_cut=preview != approval.preview,
            may_export=evidence.may_export(person(request)),
            deliveries_url=f"{reverse('admin:workflows_delivery_changelist')}?message__id__exact={approval.subject_id}",
            now=timezone.now(),
        )

    def evidence_file(self, request: HttpRequest, pk: int) -> StreamingHttpResponse:
        approval = self.find(request, pk)
        try:
            pieces = evidence_bundle.stream(approval=approval, by=person(request))
        except NotPermitted as error:
            raise PermissionDenied(str(error)) from error
        response = StreamingHttpResponse(pieces, content_type="application/json")
        response["Content-Disposition"] = f'attachment; filename="evidence-{approval.pk}.json"'
        return response


def _shortened(value: Any) -> Any:
    """The same with no list longer than _MOST."""
    if isinstance(value, dict):
        return {name: _shortened(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_shortened(entry) for entry in value[:_MOST]]
    return value
