"""The seals, and the page that tells whether the trail is whole and alive."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Max, Min
from django.http import HttpRequest, HttpResponseBadRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import archive, completeness, forwarding, holds, keys, retention, sealing, self_checks, verification
from audit.models import AuditEvent, AuditForwarder, AuditPurgeGrant, AuditSeal
from audit.verification import Tally, verify_and_record
from audit.vocabulary import TrailEvent
from compliance_bot.guardrails import policy
from compliance_bot.guardrails.paging import BoundedPaginator, CalmList

COUNT_LIMIT = 10_000


@admin.register(AuditSeal)
class AuditSealAdmin(CalmList, admin.ModelAdmin[AuditSeal]):
    list_display = ("n", "sealed_at", "size", "key_id")
    list_display_links = None
    fields = list_display
    ordering = ("-n",)
    show_full_result_count = False
    paginator = BoundedPaginator
    list_per_page = 50
    actions = None

    def get_urls(self) -> list[URLPattern]:
        return [path("health/", self.admin_site.admin_view(self.health), name="audit_health"), *super().get_urls()]

    def health(self, request: HttpRequest) -> HttpResponseBase:
        """GET shows what is known; POST verifies or checks now, puts that on the trail, and shows it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._look(request)
        now = timezone.now()
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": _("Trail health")}
        return TemplateResponse(request, "admin/audit/health.html", {**context, **overview(now)})

    def _look(self, request: HttpRequest) -> HttpResponseBase:
        if "verify" in request.POST:
            _verify(request)
        elif "check" in request.POST:
            _check(request)
        else:
            return HttpResponseBadRequest()
        return HttpResponseRedirect(reverse("admin:audit_health"))

    def has_view_permission(self, request: HttpRequest, obj: AuditSeal | None = None) -> bool:
        """Who may read the events may see how they are kept."""
        return request.user.has_perm("audit.view_auditevent")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditSeal | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditSeal | None = None) -> bool:
        return False


def _verify(request: HttpRequest) -> None:
    if verification.is_long():
        messages.error(request, _("The trail is too long to be verified while you wait: run manage.py verify_audit."))
        return
    tally = Tally()
    if verify_and_record(tally):
        messages.error(request, _("The trail is not intact."))
        return
    looked_at = {"events": tally.events, "seals": tally.seals}
    messages.success(request, _("The trail is intact: %(events)s events and %(seals)s seals.") % looked_at)


def _check(request: HttpRequest) -> None:
    if any(result.findings for result in completeness.run_and_record(timezone.now())):
        messages.error(request, _("Something is missing; see below."))
    else:
        messages.success(request, _("Nothing is missing."))


def overview(now: datetime) -> dict[str, Any]:
    """Everything that the page shows. Its cost does not grow with the trail."""
    seal, late = sealing.status(now)
    guards = self_checks.missing_guards()
    return {
        "verdict": ("failed", _("The database lacks its guards.")) if guards else completeness.badge(now),
        "seal": seal,
        "late": late,
        "guards": guards,
        "verified": completeness.newest(TrailEvent.VERIFIED),
        "is_long": verification.is_long(),
        **_completeness(),
        **_kept(now),
        "checkpoint": self_checks.newest_checkpoint(),
        "checkpoint_file": settings.AUDIT_CHECKPOINT_FILE.name,
        "receivers": _receivers(),
        "keys": list(keys.public_keys()),
    }


def _completeness() -> dict[str, Any]:
    """Each check with what the last look at it found."""
    checked = completeness.newest(TrailEvent.CHECKED)
    facts = checked.facts if checked else {}
    counts, first = facts.get("checks", {}), facts.get("first", [])
    rows = [
        {
            "label": check.label,
            "count": counts.get(check.name),
            "most": completeness.MOST,
            "findings": [finding for finding in first if finding["check"] == check.name],
        }
        for check in completeness.checks()
    ]
    return {"checked": checked, "checks": rows}


def _kept(now: datetime) -> dict[str, Any]:
    """What is in the table, what leaves it next, what is on hold, what is in archives."""
    rules = policy.current().audit
    due = retention.expired(now).order_by()
    kept = AuditPurgeGrant.objects.filter(last_at__gt=now - timedelta(days=rules.archive_days))
    return {
        "oldest": AuditEvent.objects.order_by("at", "pk").first(),
        "rules": rules,
        "due": holds.not_held(due)[: COUNT_LIMIT + 1].count(),
        "held": holds.held(due)[: COUNT_LIMIT + 1].count(),
        "count_limit": COUNT_LIMIT,
        "holds": holds.active().count(),
        "archives": len(archive.names()),
        "archived": kept.aggregate(first=Min("first_at"), last=Max("last_at")),
    }


def _receivers() -> list[AuditForwarder]:
    """Those that are switched on, told something or not."""
    rows = AuditForwarder.objects.in_bulk()
    return [rows.get(name, AuditForwarder(name=name)) for name in forwarding.receivers()]
