from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from workflows.admin.base import ReadOnlyAdmin, badge, lines, link
from workflows.models import Digest, Run
from workflows.services import queue


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin[Run]):
    change_list_template = "admin/workflows/run/change_list.html"
    list_display = ("due_at", "workflow", "state_badge", "digest_kind", "outcome", "finished_at")
    list_filter = ("state", "workflow", "digest_kind")
    list_select_related = ("workflow",)
    fields = (
        "workflow",
        "cadence",
        "digest_kind",
        "state_badge",
        "outcome",
        "read",
        "digest_link",
        "due_at",
        "started_at",
        "finished_at",
        "started_by",
        "attempts",
        "request_id",
    )

    def get_urls(self) -> list[URLPattern]:
        page = path("queue/", self.admin_site.admin_view(self.queue), name="workflows_queue")
        return [page, *super().get_urls()]

    def queue(self, request: HttpRequest) -> HttpResponse:
        """The queue, to look at: its own admin could run any function, so it is not there."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self.render_page(request, "admin/workflows/queue.html", title=_("Queue"), state=queue.state())

    @admin.display(description=_("state"), ordering="state")
    def state_badge(self, obj: Run) -> SafeString:
        return badge(obj.state, obj.get_state_display())

    @admin.display(description=_("what was read"))
    def read(self, obj: Run) -> SafeString | str:
        return lines(obj.notes) if obj.notes else "–"

    @admin.display(description=_("digest"))
    def digest_link(self, obj: Run) -> str | SafeString:
        return link(Digest.objects.filter(run=obj).first())
