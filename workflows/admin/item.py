from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from workflows.admin.base import ReadOnlyAdmin
from workflows.models import Item


@admin.register(Item)
class ItemAdmin(ReadOnlyAdmin[Item]):
    list_display = ("title", "source", "published_at", "first_seen_at")
    list_filter = ("source",)
    list_select_related = ("source",)
    search_fields = ("title",)
    fields = ("title", "summary", "page", "source", "author", "published_at", "first_seen_at", "edited_at")

    @admin.display(description=_("link"))
    def page(self, obj: Item) -> str | SafeString:
        """Curation keeps http and https addresses only, so this can be a link."""
        if not obj.url:
            return "–"
        return format_html('<a href="{0}" rel="noopener noreferrer nofollow" target="_blank">{0}</a>', obj.url)
