"""What was archived and purged, by grant: looked at, never edited."""

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from audit import archive
from audit.models import AuditPurge, AuditPurgeGrant
from compliance_bot.guardrails.paging import BoundedPaginator, CalmList


@admin.register(AuditPurgeGrant)
class AuditPurgeGrantAdmin(CalmList, admin.ModelAdmin[AuditPurgeGrant]):
    list_display = ("n", "granted_at", "before", "events", "purged", "first_at", "last_at", "file_state")
    fields = (*list_display, "archive", "archive_digest")
    show_full_result_count = False
    paginator = BoundedPaginator
    list_per_page = 50
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditPurgeGrant | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditPurgeGrant | None = None) -> bool:
        return False

    @admin.display(description=_("purged"))
    def purged(self, obj: AuditPurgeGrant) -> int:
        return AuditPurge.objects.filter(grant_n=obj.n).count()

    @admin.display(description=_("archive file"))
    def file_state(self, obj: AuditPurgeGrant) -> SafeString:
        there = archive.is_there(obj.archive)
        label = _("in the archive") if there else _("not in the archive")
        return format_html('<span class="badge badge-{}">{}</span>', "success" if there else "cancelled", label)

    @admin.display(description="SHA-256")
    def archive_digest(self, obj: AuditPurgeGrant) -> str:
        return bytes(obj.archive_sha256).hex()
