"""Dead letters: what failed, was given up, or may have arrived. To be read, settled, sent again, exported."""

from typing import Any

from django.contrib import admin
from django.contrib.admin import helpers
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from audit import context
from audit.recorder import record
from workflows.admin import csv_file
from workflows.admin.base import ReadOnlyAdmin, badge, link, person
from workflows.domain.errors import WorkflowError
from workflows.domain.events import Event
from workflows.models import DeadLetter, Delivery
from workflows.services import settling

_COLUMNS = ("message", "subject", "recipient", "address", "channel", "part", "state", "code", "detail", "attempts")


class CodeFilter(admin.SimpleListFilter):
    title = gettext_lazy("code")
    parameter_name = "code"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        codes = DeadLetter.objects.order_by("code").values_list("code", flat=True).distinct()
        return [(code, code) for code in codes[:50] if code]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        return queryset.filter(code=self.value()) if self.value() else queryset


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin[DeadLetter]):
    list_display = ("recipient", "of_message", "channel", "state_badge", "code", "detail", "attempts")
    list_display_links = None
    list_filter = ("state", "channel", CodeFilter)
    list_select_related = ("message", "channel", "part")
    search_fields = ("recipient", "address")
    actions = ("send_again", "they_arrived", "export")

    def has_view_permission(self, request: HttpRequest, obj: DeadLetter | None = None) -> bool:
        return request.user.has_perm("workflows.view_delivery")

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("workflows.settle_delivery")

    def has_export_permission(self, request: HttpRequest) -> bool:
        return self.has_settle_permission(request) or request.user.has_perm("audit.export_auditevent")

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        """One letter is a delivery, and has its page."""
        return HttpResponseRedirect(reverse("admin:workflows_delivery_change", args=[object_id]))

    @admin.action(description=gettext_lazy("Send again"), permissions=["settle"])
    def send_again(self, request: HttpRequest, queryset: models.QuerySet[DeadLetter]) -> HttpResponse | None:
        return self._settle(request, queryset, _("Send these again"))

    @admin.action(description=gettext_lazy("They arrived"), permissions=["settle"])
    def they_arrived(self, request: HttpRequest, queryset: models.QuerySet[DeadLetter]) -> HttpResponse | None:
        return self._settle(request, queryset, _("These arrived"))

    def _settle(self, request: HttpRequest, queryset: models.QuerySet[DeadLetter], title: str) -> HttpResponse | None:
        """A page that lists what is concerned and asks for the reason; then the decision."""
        chosen = list(queryset.values_list("pk", flat=True)[: settling.MOST + 1])
        if "reason" not in request.POST:
            return self.render_page(
                request,
                "admin/workflows/deadletter/settle.html",
                title=title,
                action=request.POST["action"],
                chosen=chosen,
                letters=queryset.select_related("message", "channel", "part")[:50],
                action_checkbox_name=helpers.ACTION_CHECKBOX_NAME,
            )
        try:
            self.message_user(request, settle(request, chosen))
        except WorkflowError as error:
            self.message_user(request, str(error), level="ERROR")
        return None

    @admin.action(description=gettext_lazy("Export as CSV"), permissions=["export"])
    def export(self, request: HttpRequest, queryset: models.QuerySet[DeadLetter]) -> StreamingHttpResponse:
        with transaction.atomic(), context.acting(person(request)):
            record(Event.DELIVERIES_EXPORTED, facts={"rows": queryset.count(), "query": request.GET.urlencode()})
        rows = queryset.select_related("message", "channel", "part").order_by("pk")
        cells = (_cells(row) for row in rows.iterator(chunk_size=1000))
        return csv_file.download("dead-letters.csv", (*_COLUMNS, "last_try"), cells)

    @admin.display(description=gettext_lazy("message"), ordering="message")
    def of_message(self, obj: DeadLetter) -> str | SafeString:
        return link(obj.message)

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def state_badge(self, obj: DeadLetter) -> SafeString:
        return badge(obj.state, obj.get_state_display())


def settle(request: HttpRequest, deliveries: list[int]) -> str:
    """Carry out what the pressed button says; what came of it, in words. Raises WorkflowError."""
    by, reason = person(request), request.POST.get("reason", "")
    if request.POST.get("action") == "they_arrived":
        number = settling.arrived(deliveries, by=by, reason=reason)
        return ngettext("Noted: it arrived.", "Noted: %(n)s arrived.", number) % {"n": number}
    if requests := settling.send_again(deliveries, by=by, reason=reason):
        numbers = ", ".join(str(request.pk) for request in requests)
        return _("A second person decides first: request %(numbers)s.") % {"numbers": numbers}
    return ngettext("It is sent again.", "%(n)s are sent again.", len(deliveries)) % {"n": len(deliveries)}


def _cells(row: Delivery) -> list[str]:
    last = row.sent_at or row.first_tried_at
    return [
        *(str(row.message_id), row.message.subject, row.recipient, row.address, row.channel.name),
        *(f"{row.part.number}/{row.part.of}", row.state, row.code, row.detail, str(row.attempts)),
        localtime(last).isoformat(timespec="seconds") if last else "",
    ]
