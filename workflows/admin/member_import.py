"""Importing members: a file is uploaded, what it would do is shown, and somebody confirms it."""

from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from workflows.admin.base import HouseAdmin, change_url, person
from workflows.admin.changes import writes_no_configuration
from workflows.domain.errors import Invalid
from workflows.domain.states import ImportState
from workflows.models import ApprovalRequest, Audience, ImportMode, MemberImport
from workflows.services import imports, member_files

_LATEST = 10


class UploadForm(forms.Form):
    file = forms.FileField(label=gettext_lazy("File"), widget=forms.FileInput(attrs={"accept": ".csv,text/csv"}))
    mode = forms.ChoiceField(
        label=gettext_lazy("Mode"), choices=ImportMode.choices, initial=ImportMode.ADD, widget=forms.RadioSelect
    )

    def clean_file(self) -> Any:
        """Not even read where it is too large."""
        file = self.cleaned_data["file"]
        if file.size > member_files.MOST_BYTES:
            most = {"most": member_files.MOST_BYTES // 2**20}
            raise forms.ValidationError(_("A file has at most %(most)s MB: split it.") % most)
        return file


class ImportPages(HouseAdmin[Audience]):
    """The pages of an audience's imports."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        at = "<int:pk>/import/"
        return [
            path(at, view(self.import_file), name="workflows_audience_import"),
            path(f"{at}<int:number>/", view(self.import_shown), name="workflows_audience_import_shown"),
            path(
                f"{at}<int:number>/confirm/",
                view(require_POST(self.import_confirmed)),
                name="workflows_audience_import_confirm",
            ),
            path(f"{at}<int:number>/progress/", view(self.import_progress), name="workflows_audience_import_progress"),
            *super().get_urls(),
        ]

    @writes_no_configuration
    def import_file(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Checking a large file takes seconds, in which nobody else is to be kept waiting."""
        audience = self.find(request, pk)
        if not imports.may_import(person(request)):
            raise PermissionDenied
        form = UploadForm(request.POST or None, request.FILES or None)
        reading = None
        if request.method == "POST" and form.is_valid():
            file = form.cleaned_data["file"]
            try:
                job = imports.upload(
                    audience=audience,
                    name=file.name,
                    content=file.read(),
                    mode=form.cleaned_data["mode"],
                    by=person(request),
                )
            except imports.Unusable as error:
                form.add_error("file", str(error))
                reading = error.reading
            except Invalid as error:
                form.add_error("file", str(error))
            else:
                return HttpResponseRedirect(_shown_url(job))
        return self.render_page(
            request,
            "admin/workflows/audience/import.html",
            title=_("Import members"),
            audience=audience,
            form=form,
            reading=reading,
            columns=",".join(member_files.COLUMNS),
            most_rows=member_files.MOST_ROWS,
            latest=audience.imports.select_related("uploaded_by").defer("content", "first")[:_LATEST],
        )

    def import_shown(self, request: HttpRequest, pk: int, number: int) -> HttpResponse:
        job = self._job(request, pk, number)
        return self.render_page(
            request,
            "admin/workflows/audience/import_shown.html",
            title=_("Import of members"),
            job=job,
            is_to_confirm=job.state == ImportState.CHECKED and job.uploaded_by_id == request.user.pk,
            request_url=_request_url(job),
            progress=_progress(job),
        )

    def import_confirmed(self, request: HttpRequest, pk: int, number: int) -> HttpResponse:
        job, by = self._job(request, pk, number), person(request)
        done = _("Confirmed.")
        self.carry_out(
            request,
            done,
            lambda: imports.confirm(import_id=job.pk, by=by, reason=request.POST.get("reason", "")),
        )
        return HttpResponseRedirect(_shown_url(job))

    def import_progress(self, request: HttpRequest, pk: int, number: int) -> HttpResponse:
        return JsonResponse(_progress(self._job(request, pk, number)))

    def _job(self, request: HttpRequest, pk: int, number: int) -> MemberImport:
        """Raises Http404 where there is none, or nobody who may look at it."""
        audience = self.find(request, pk)
        jobs = audience.imports.select_related("audience", "uploaded_by").defer("content")
        if not request.user.has_perm("workflows.view_audiencemember") or not (job := jobs.filter(pk=number).first()):
            raise Http404
        return job


def _shown_url(job: MemberImport) -> str:
    return reverse("admin:workflows_audience_import_shown", args=[job.audience_id, job.pk])


def _request_url(job: MemberImport) -> str | None:
    about = {"subject_type": MemberImport._meta.label_lower, "subject_id": str(job.pk)}
    request = ApprovalRequest.objects.filter(**about).order_by("pk").last()
    return None if request is None else change_url(request)


def _progress(job: MemberImport) -> dict[str, Any]:
    """As templates/static/compliance/progress.js wants it."""
    done = job.rows if job.state == ImportState.APPLIED else job.progress
    count = f"{done} / {job.rows}"
    return {
        "state": job.state,
        "label": job.get_state_display(),
        "final": job.is_closed,
        "counts": [
            {"state": job.state, "label": job.get_state_display(), "count": count, "url": _shown_url(job)},
        ],
    }
