from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.formats import localize
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from workflows import channels
from workflows.admin.adapter import AdapterAdmin, AdapterForm
from workflows.admin.base import badge, person
from workflows.models import Channel, ChannelSecret, SecretRef
from workflows.services import delivery, pauses

_SECRET = "secret_"  # noqa: S105 - a prefix of field names


class ChannelForm(AdapterForm[Channel]):
    """One choice of a stored secret for each secret field of the adapter; values are never shown here."""

    registry = channels.registry

    class Meta:
        model = Channel
        fields = ("name", "kind", "per_minute", "enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        chosen = dict(self.instance.secrets.values_list("field", "secret")) if self.instance.pk else {}
        if not self.instance.pk:
            self.fields["per_minute"].initial = self.adapter.per_minute
        for name in self.adapter.secret_fields:
            self.fields[_SECRET + name] = forms.ModelChoiceField(
                SecretRef.objects.all(),
                label=gettext_lazy("Secret: %(name)s") % {"name": name},
                initial=chosen.get(name),
                help_text=gettext_lazy("The stored secret that holds this value. Add one under Secrets first."),
            )

    @classmethod
    def adapter_fields(cls, adapter: Any) -> list[str]:
        return [*super().adapter_fields(adapter), *(_SECRET + name for name in adapter.secret_fields)]

    def save_secrets(self) -> None:
        for name in self.adapter.secret_fields:
            ChannelSecret.objects.update_or_create(
                channel=self.instance, field=name, defaults={"secret": self.cleaned_data[_SECRET + name]}
            )


@admin.register(Channel)
class ChannelAdmin(AdapterAdmin[Channel]):
    form = ChannelForm
    own_fields = ("per_minute", "enabled")
    facts = ("health",)
    change_form_template = "admin/workflows/channel/change_form.html"
    list_display = ("name", "kind_label", "health", "per_minute", "enabled")
    search_fields = ("name",)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001
        super().save_related(request, form, formsets, change)
        form.save_secrets()
        delivery.resume(form.instance)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if context.get("original") is not None:
            context["pause"] = pauses.of(context["original"])
        return super().render_change_form(request, context, *args, **kwargs)

    def get_urls(self) -> list[URLPattern]:
        repair = path(
            "<int:pk>/repair/",
            self.admin_site.admin_view(require_POST(self.repair)),
            name="workflows_channel_repair",
        )
        return [repair, *super().get_urls()]

    def repair(self, request: HttpRequest, pk: int) -> HttpResponse:
        channel = self.find(request, pk)
        if not self.has_change_permission(request, channel):
            raise PermissionDenied
        self.carry_out(
            request,
            _("The channel is in use again."),
            lambda: delivery.repair(channel=channel, by=person(request), reason=request.POST.get("reason", "")),
        )
        return self.back(channel)

    @admin.display(description=gettext_lazy("health"))
    def health(self, obj: Channel) -> SafeString:
        if obj.broken_at:
            why = _("out of order: %(why)s") % {"why": obj.broken_why}
            if obj.probe_at is None:
                return badge("failed", why)
            again = _("tried again at %(time)s") % {"time": localize(timezone.localtime(obj.probe_at))}
            return badge("failed", f"{why} – {again}")
        return badge("sent", _("in use")) if obj.enabled else badge("paused", _("switched off"))
