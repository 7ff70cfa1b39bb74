"""The kill switch: pauses in force and lifted ones, a page to pause, a page to resume. GET shows, POST acts."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext
from django.views.decorators.http import require_POST

from workflows.admin.base import HouseAdmin, ReadOnlyAdmin, badge, change_url, person
from workflows.models import Channel, Message, SendingPause, Workflow
from workflows.services import pauses

_TARGETS: dict[str, type[pauses.Target]] = {"workflow": Workflow, "channel": Channel, "message": Message}


@admin.register(SendingPause)
class SendingPauseAdmin(ReadOnlyAdmin[SendingPause]):
    change_list_template = "admin/workflows/sendingpause/change_list.html"
    list_display = ("what", "state_badge", "reason", "placed_by", "placed_at", "lifted_by", "lifted_at")
    list_select_related = ("workflow", "channel", "message", "placed_by", "lifted_by")
    search_fields = ("reason", "lift_reason")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("pause/", view(self.pause), name="workflows_sendingpause_pause"),
            path("pause/<slug:kind>/<int:pk>/", view(self.pause), name="workflows_sendingpause_pause"),
            path("<int:pk>/resume/", view(require_POST(self.resume)), name="workflows_sendingpause_resume"),
            *super().get_urls(),
        ]

    def pause(self, request: HttpRequest, kind: str = "", pk: int = 0) -> HttpResponse:
        """GET asks for the reason, POST pauses; without a kind it is about everything."""
        if not request.user.has_perm("workflows.pause_sending"):
            raise PermissionDenied
        target = self._target(request, kind, pk) if kind else None
        reason = request.POST.get("reason", "")
        if request.method == "POST" and self.carry_out(
            request,
            _("Sending is paused. A call that is being made at this moment still ends."),
            lambda: pauses.pause(by=person(request), reason=reason, target=target),
        ):
            return _page_of(target)
        return self.render_page(
            request,
            "admin/workflows/sendingpause/pause.html",
            title=_("Pause sending") if target else _("Pause all sending"),
            target=target,
            kind=target and target._meta.verbose_name,
            back_url=_page_of(target).url,
            paused=pauses.of(target),
            reason=reason,
        )

    def _target(self, request: HttpRequest, kind: str, pk: int) -> pauses.Target:
        if kind not in _TARGETS:
            raise Http404
        page = self.admin_site.get_model_admin(_TARGETS[kind])
        assert isinstance(page, HouseAdmin)  # noqa: S101 - the pages of the loop all are
        found: pauses.Target = page.find(request, pk)
        return found

    def resume(self, request: HttpRequest, pk: int) -> HttpResponse:
        paused = self.find(request, pk)
        resumed = self.carry_out(
            request,
            _("Sending goes on: what was held is sent now."),
            lambda: pauses.resume(pause_id=pk, by=person(request), reason=request.POST.get("reason", "")),
        )
        return _page_of(paused.target) if resumed else self.back(paused)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        paused = self.find(request, object_id)
        target = paused.target
        return self.render_page(
            request,
            "admin/workflows/sendingpause/change_form.html",
            title=self.opts.verbose_name,
            paused=paused,
            badge=self.state_badge(paused),
            in_force=_in_force(paused),
            kind=target and target._meta.verbose_name,
            target_url=target and change_url(target),
        )

    @admin.display(description=gettext_lazy("what is paused"))
    def what(self, obj: SendingPause) -> str:
        return capfirst(str(obj))

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, obj: SendingPause) -> SafeString:
        if _in_force(obj):
            return badge("halted", _("in force"))
        return badge("ended", pgettext("pause", "resumed") if obj.lifted_at else _("message ended"))


def _in_force(paused: SendingPause) -> bool:
    """As SendingPauseQuerySet.in_force(), of a row at hand."""
    return paused.lifted_at is None and (paused.message is None or paused.message.finished_at is None)


def _page_of(target: pauses.Target | None) -> HttpResponseRedirect:
    return HttpResponseRedirect(change_url(target) if target else reverse("admin:index"))
