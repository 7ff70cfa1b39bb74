from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from workflows import sources
from workflows.admin.adapter_form import AdapterForm, adapter_of, config_field_names
from workflows.admin.base import HouseAdmin, badge, lines
from workflows.models import Source


class SourceForm(AdapterForm[Source]):
    registry = sources.registry

    class Meta:
        model = Source
        fields = ("name", "kind", "weight", "enabled")


@admin.register(Source)
class SourceAdmin(HouseAdmin[Source]):
    form = SourceForm
    list_display = ("name", "kind_label", "health", "fetched_at", "enabled")
    list_filter = ("enabled", "kind")
    search_fields = ("name",)
    readonly_fields = ("health", "fetched_at", "fetch_after", "last_error", "last_notes")

    def get_fieldsets(self, request: HttpRequest, obj: Source | None = None) -> Any:
        config = config_field_names(adapter_of(sources.registry, obj.kind if obj else request.POST.get("kind")))
        own = (None, {"fields": ["name", "kind", *config, "weight", "enabled"]})
        if obj is None:
            return [own]
        health = {"fields": ["health", "fetched_at", "fetch_after", "last_error", "last_notes"]}
        return [own, (_("Health"), health)]

    def get_form(self, request: HttpRequest, obj: Source | None = None, *args: Any, **kwargs: Any) -> Any:
        kwargs["fields"] = ["name", "kind", "weight", "enabled"]  # the rest of the fieldsets is the adapter's
        return super().get_form(request, obj, *args, **kwargs)

    @admin.display(description=gettext_lazy("kind"))
    def kind_label(self, obj: Source) -> str:
        return str(dict(sources.registry.choices()).get(obj.kind, obj.kind))

    @admin.display(description=gettext_lazy("health"))
    def health(self, obj: Source) -> SafeString:
        if obj.failing_since:
            return badge(
                "failed", _("failing since %(when)s") % {"when": f"{localtime(obj.failing_since):%Y-%m-%d %H:%M}"}
            )
        return badge("sent", _("reads well")) if obj.fetched_at else badge("draft", _("not read yet"))

    @admin.display(description=gettext_lazy("notes of the last read"))
    def last_notes(self, obj: Source) -> SafeString | str:
        return lines(obj.notes) if obj.notes else "–"
