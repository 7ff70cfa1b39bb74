from django.contrib import admin
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from workflows import sources
from workflows.admin.adapter import AdapterAdmin, AdapterForm
from workflows.admin.base import badge, lines
from workflows.models import Source


class SourceForm(AdapterForm[Source]):
    registry = sources.registry

    class Meta:
        model = Source
        fields = ("name", "kind", "weight", "enabled")


@admin.register(Source)
class SourceAdmin(AdapterAdmin[Source]):
    form = SourceForm
    own_fields = ("weight", "enabled")
    facts = ("health", "fetched_at", "fetch_after", "last_error", "last_notes")
    list_display = ("name", "kind_label", "health", "fetched_at", "enabled")
    list_filter = ("enabled", "kind")
    search_fields = ("name",)

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
