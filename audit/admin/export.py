"""Exports: the page that asks, the list of one's own, and the file for its owner."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextInputWidget
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from audit import proof, search
from audit.export import columns, jobs
from audit.export.stream import Export, stream
from audit.forms import SearchForm
from audit.models import AuditExport, ExportForm, ExportState
from audit.recorder import record
from audit.search import Search
from audit.vocabulary import TrailEvent
from compliance_bot.guardrails.paging import BoundedPaginator, CalmList

_COLUMNS = {
    "who": _("who"),
    "what": _("what"),
    "when": _("when"),
    "why": _("why"),
    "request_id": _("request"),
    "event_id": _("event"),
    "outcome": _("outcome"),
    "on_behalf_of": _("on behalf of"),
    "object_type": _("kind of object"),
    "object_id": _("object's id"),
    "object": _("object"),
    "address": _("address"),
    "details": _("details, with the erasable ones"),
}
_CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl", "zip": "application/zip"}
# Sent by exports.js.
_REFRESHES = "X-Refresh"
_UNFINISHED = {ExportState.QUEUED, ExportState.RUNNING}


class AskForm(forms.Form):
    """Why, and in what shape."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=500,
        widget=AdminTextInputWidget(attrs={"class": "vLargeTextField"}),
        help_text=_("Why it is exported; the trail keeps it with the file's digest."),
    )
    form = forms.ChoiceField(label=_("Format"), choices=ExportForm.choices)
    columns = forms.MultipleChoiceField(
        label=_("Further columns"),
        required=False,
        choices=[(name, _COLUMNS[name]) for name in columns.CHOOSABLE],
        initial=[name for name in columns.CHOOSABLE if name != columns.DETAILS],
        widget=forms.CheckboxSelectMultiple,
    )
    excel = forms.BooleanField(label=_("For Excel (byte order mark)"), required=False, initial=True)

    def export(self, asked: Search) -> Export:
        """What a valid form asks for."""
        chosen = self.cleaned_data
        return Export(
            search=asked,
            form=chosen["form"],
            columns=columns.chosen(chosen["columns"]),
            reason=chosen["reason"],
            bom=proof.BOM if chosen["excel"] and chosen["form"] == ExportForm.CSV else "",
        )


@admin.register(AuditExport)
class AuditExportAdmin(CalmList, admin.ModelAdmin[AuditExport]):
    change_list_template = "admin/audit/exports.html"
    list_display = (
        *("created_at", "reason", "form", "state_badge", "progress", "unsealed", "size_shown", "expires_at"),
        "buttons",
    )
    list_display_links = None
    show_full_result_count = False
    paginator = BoundedPaginator
    list_per_page = 50
    actions = None
    fields = (
        *("created_at", "reason", "query", "form", "state_badge", "problem", "progress", "unsealed"),
        *("size_shown", "sha256"),
    )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("new/", view(self.ask), name="audit_export"),
            path("<int:pk>/download/", view(self.download), name="audit_export_download"),
            path("<int:pk>/cancel/", view(self.cancel), name="audit_export_cancel"),
            *super().get_urls(),
        ]

    def ask(self, request: HttpRequest) -> HttpResponseBase:
        """GET asks why; POST streams what the search in the address finds, or has it prepared."""
        if not request.user.has_perm(jobs.PERMISSION):
            raise PermissionDenied
        asked = SearchForm(request.GET)
        if not asked.is_valid():  # the list says what is wrong, at its field
            return HttpResponseRedirect(f"{reverse('admin:audit_auditevent_changelist')}?{request.GET.urlencode()}")
        count = search.count(asked.search())
        form = AskForm(request.POST or None)
        if not form.is_valid():
            return self._page(request, form, asked.search(), count)
        export = form.export(asked.search())
        if not jobs.is_for_background(export, count):
            return _streamed(export)
        jobs.ask(export, owner=_person(request))
        messages.success(request, _("The export is being prepared. It will be here when it is ready."))
        return self._list()

    def download(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """The file, for its owner alone."""
        job = _found(pk)
        try:
            file = jobs.download(job, _person(request))
        except jobs.Refused as refusal:
            messages.error(request, str(refusal))
            return self._list()
        kind = _CONTENT_TYPES[job.form]
        return FileResponse(file, as_attachment=True, filename=_file_name(job.form), content_type=kind)

    def cancel(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """POST stops it, or removes what is ready; for its owner alone."""
        job = _found(pk)
        if request.method != "POST" or job.owner_id != request.user.pk:
            raise PermissionDenied
        if jobs.cancel(job):
            messages.success(request, _("The export was cancelled and its file removed."))
        return self._list()

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditExport]:
        """One's own: what somebody else exported is in the trail, not here."""
        return super().get_queryset(request).filter(owner_id=request.user.pk)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Who looks is on the trail. While something is being prepared the page refreshes itself: that is one look."""
        waits = self.get_queryset(request).filter(state__in=_UNFINISHED).exists()
        response = super().changelist_view(request, {**(extra_context or {}), "waits": waits})
        if response.status_code == 200 and not (waits and _REFRESHES in request.headers):
            _viewed(None)
        return response

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Django comes here once it has found the export, and the person may see it."""
        _viewed(context["original"])
        return super().render_change_form(request, context, *args, **kwargs)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditExport | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditExport | None = None) -> bool:
        return False

    @admin.display(description=_("state"), ordering="state")
    def state_badge(self, obj: AuditExport) -> SafeString:
        return format_html(
            '<span class="badge badge-{}" title="{}">{}</span>', obj.state, obj.problem, obj.get_state_display()
        )

    @admin.display(description=_("rows"))
    def progress(self, obj: AuditExport) -> str:
        """Rows so far; how far through the keys, where nobody has counted."""
        if obj.state not in _UNFINISHED:
            return f"{obj.rows_done:,}"
        if obj.rows_expected is not None:
            return f"{obj.rows_done:,} / {obj.rows_expected:,}"
        whole = obj.below_pk or 1
        return f"{obj.rows_done:,} ({100 * (whole - (obj.next_below or whole)) // whole} %)"

    @admin.display(description=_("size"))
    def size_shown(self, obj: AuditExport) -> str:
        return "–" if obj.size is None else filesizeformat(obj.size)

    @admin.display(description="")
    def buttons(self, obj: AuditExport) -> SafeString | str:
        """The list's own form carries the token, so a button only says where to."""
        if obj.state not in {ExportState.WAITING, *_UNFINISHED, ExportState.READY}:
            return obj.problem
        cancel = format_html(
            '<button class="button" formmethod="post" formaction="{}">{}</button>',
            reverse("admin:audit_export_cancel", args=[obj.pk]),
            _("Remove") if obj.state == ExportState.READY else _("Cancel"),
        )
        if obj.state in {ExportState.WAITING, *_UNFINISHED}:
            return cancel
        link = reverse("admin:audit_export_download", args=[obj.pk])
        return format_html('<a class="button" href="{}">{}</a> {}', link, _("Download"), cancel)

    def _page(self, request: HttpRequest, form: AskForm, asked: Search, count: int) -> TemplateResponse:
        facts = {
            "title": _("Export"),
            "form": form,
            "count": count,
            "more_than": search.COUNT_LIMIT,
            "address": asked.address(),
            "fixed": [_COLUMNS[name] for name in (*columns.FIXED, columns.ID)],
        }
        context = {**self.admin_site.each_context(request), "opts": self.opts, **facts}
        return TemplateResponse(request, "admin/audit/export.html", context)

    def _list(self) -> HttpResponseRedirect:
        return HttpResponseRedirect(reverse("admin:audit_auditexport_changelist"))


def _viewed(job: AuditExport | None) -> None:
    with transaction.atomic():
        record(TrailEvent.EXPORT_VIEWED, target=job)


def _streamed(export: Export) -> StreamingHttpResponse:
    response = StreamingHttpResponse(stream(export), content_type=_CONTENT_TYPES[export.form])
    response["Content-Disposition"] = f'attachment; filename="{_file_name(export.form)}"'
    return response


def _file_name(form: str) -> str:
    return f"audit-{timezone.now():%Y%m%dT%H%M%SZ}.{form}"


def _found(pk: int) -> AuditExport:
    job = AuditExport.objects.select_related("owner").filter(pk=pk).first()
    if job is None:
        raise Http404
    return job


def _person(request: HttpRequest) -> User:
    """Who is signed in; the admin lets nobody else come this far."""
    assert isinstance(request.user, User)  # noqa: S101 - admin_view guards every page
    return request.user
