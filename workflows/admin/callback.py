from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from workflows.admin.base import ConfigurationAdmin, ReadOnlyAdmin, badge
from workflows.models import CallbackApp, InboundEvent, WeComAccount


@admin.register(CallbackApp)
class CallbackAppAdmin(ConfigurationAdmin[CallbackApp]):
    list_display = ("slug", "address", "enabled")
    fields = ("slug", "receive_id", "token", "aes_key", "channel", "enabled", "address")
    readonly_fields = ("address",)
    search_fields = ("slug",)

    @admin.display(description=_("address"))
    def address(self, obj: CallbackApp) -> str:
        return f"/wecom/{obj.slug}/callback" if obj.slug else "–"

    def get_readonly_fields(self, request: HttpRequest, obj: CallbackApp | None = None) -> Any:
        """WeCom knows the address by this name."""
        return self.readonly_fields if obj is None else (*self.readonly_fields, "slug")


@admin.register(WeComAccount)
class WeComAccountAdmin(ConfigurationAdmin[WeComAccount]):
    list_display = ("user", "userid", "app")
    list_select_related = ("user", "app")
    search_fields = ("userid", "user__username")
    fields = ("user", "app", "userid")


@admin.register(InboundEvent)
class InboundEventAdmin(ReadOnlyAdmin[InboundEvent]):
    list_display = ("received_at", "kind", "from_user", "app", "state_badge")
    list_filter = ("state", "app")
    list_select_related = ("app",)
    search_fields = ("from_user", "kind")
    fields = ("received_at", "app", "kind", "from_user", "state_badge", "why", "payload", "request_id")

    @admin.display(description=_("state"), ordering="state")
    def state_badge(self, obj: InboundEvent) -> SafeString:
        return badge(obj.state, obj.get_state_display())
