import json

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from workflows.admin.base import ReadOnlyAdmin, link
from workflows.models import Digest, Message


@admin.register(Digest)
class DigestAdmin(ReadOnlyAdmin[Digest]):
    change_form_template = "admin/workflows/digest/change_form.html"
    list_display = ("created_at", "workflow", "kind", "size")
    list_filter = ("workflow", "kind")
    list_select_related = ("workflow",)
    fields = ("workflow", "kind", "created_at", "run", "message_link", "json")

    @admin.display(description=_("entries"))
    def size(self, obj: Digest) -> int:
        return len(obj.content["entries"])

    @admin.display(description=_("message"))
    def message_link(self, obj: Digest) -> str | SafeString:
        return link(Message.objects.filter(digest=obj).first())

    @admin.display(description=_("contract (digest.v1)"))
    def json(self, obj: Digest) -> SafeString:
        text = json.dumps(obj.content, indent=2, ensure_ascii=False)
        return format_html('<details><summary>JSON</summary><pre class="json">{}</pre></details>', text)
