from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from workflows.admin.base import ReadOnlyAdmin, badge, lines, link
from workflows.models import Digest, Run


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin[Run]):
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

    @admin.display(description=_("state"), ordering="state")
    def state_badge(self, obj: Run) -> SafeString:
        return badge(obj.state, obj.get_state_display())

    @admin.display(description=_("what was read"))
    def read(self, obj: Run) -> SafeString | str:
        return lines(obj.notes) if obj.notes else "–"

    @admin.display(description=_("digest"))
    def digest_link(self, obj: Run) -> str | SafeString:
        return link(Digest.objects.filter(run=obj).first())
