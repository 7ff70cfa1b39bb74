from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from workflows.admin.base import ConfigurationAdmin
from workflows.models import Audience, AudienceMember


class MemberInline(admin.TabularInline[AudienceMember, Audience]):
    model = AudienceMember
    extra = 0
    fields = ("label", "channel", "address", "is_group", "size")


@admin.register(Audience)
class AudienceAdmin(ConfigurationAdmin[Audience]):
    inlines = (MemberInline,)
    list_display = ("name", "members", "note")
    search_fields = ("name", "note")

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Audience]:
        return super().get_queryset(request).annotate(member_count=models.Count("members"))

    @admin.display(description=_("members"), ordering="member_count")
    def members(self, obj: Any) -> int:
        return int(obj.member_count)
