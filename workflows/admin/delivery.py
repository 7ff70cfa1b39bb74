from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from workflows.admin.base import ReadOnlyAdmin, badge, lines
from workflows.admin.deadletter import settle
from workflows.domain.errors import WorkflowError
from workflows.domain.states import DELIVERY_DEAD, DeliveryState
from workflows.models import Delivery


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin[Delivery]):
    change_form_template = "admin/workflows/delivery/change_form.html"
    list_display = (
        "recipient",
        "message",
        "which_part",
        "state_badge",
        "attempts",
        "code",
        "sent_at",
        "not_before",
    )
    list_filter = ("state", "channel")  # one message: ?message__id__exact=, from its own page
    list_select_related = ("message", "part", "channel")
    search_fields = ("recipient", "address")
    fields = (
        "message",
        "channel",
        "recipient",
        "which_part",
        "state_badge",
        "detail",
        "code",
        "receipt",
        "attempts",
        "not_before",
        "sent_at",
        "tries",
        "text",
    )

    def get_urls(self) -> list[URLPattern]:
        settle = path(
            "<int:pk>/settle/",
            self.admin_site.admin_view(require_POST(self.settle)),
            name="workflows_delivery_settle",
        )
        return [settle, *super().get_urls()]

    def settle(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = self.find(request, pk)
        if request.POST.get("action") not in {"they_arrived", "send_again"}:
            return HttpResponseBadRequest(_("Neither button was pressed."))
        try:
            self.message_user(request, settle(request, [pk]))
        except WorkflowError as error:
            self.message_user(request, str(error), level="ERROR")
        return self.back(row)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, object] | None = None,
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        dead = row is not None and row.state in DELIVERY_DEAD
        can_settle = dead and request.user.has_perm("workflows.settle_delivery")
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "can_settle": can_settle})

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def state_badge(self, obj: Delivery) -> SafeString:
        return badge(obj.state, obj.get_state_display())

    @admin.display(description=gettext_lazy("part"))
    def which_part(self, obj: Delivery) -> str:
        return f"{obj.part.number} / {obj.part.of}"

    @admin.display(description=gettext_lazy("content"))
    def text(self, obj: Delivery) -> SafeString:
        return format_html('<pre class="payload">{}</pre>', obj.part.text)

    @admin.display(description=gettext_lazy("attempts in full"))
    def tries(self, obj: Delivery) -> SafeString | str:
        return lines(
            f"{row.number} · {localtime(row.started_at):%Y-%m-%d %H:%M:%S} · {_outcome(row.outcome)} {row.detail}"
            for row in obj.tries.all()[:50]
        )


def _outcome(state: str) -> str:
    """What one try came to, in the words of the delivery's states; a try without an end has none yet."""
    return str(DeliveryState(state).label) if state else "…"
