"""Audiences, their members, and whom nobody may contact."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from workflows import channels
from workflows.admin import csv_file
from workflows.admin.base import ConfigurationAdmin, person
from workflows.admin.member_import import ImportPages
from workflows.models import Audience, AudienceMember, Inclusion, Suppression
from workflows.services import changes, imports, member_files, rehearsal

# So many members stand on the audience's own page; more have a list of theirs.
_FEW = 50
_SHOWN = 50


class MemberInline(admin.TabularInline[AudienceMember, Audience]):
    model = AudienceMember
    extra = 0
    fields = ("label", "channel", "address", "is_group", "size")


class InclusionInline(admin.TabularInline[Inclusion, Audience]):
    model = Inclusion
    fk_name = "audience"
    extra = 0
    fields = ("included",)


@admin.register(Audience)
class AudienceAdmin(ImportPages, ConfigurationAdmin[Audience]):
    change_form_template = "admin/workflows/audience/change_form.html"
    list_display = ("name", "members", "note")
    search_fields = ("name", "note")

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Audience]:
        return super().get_queryset(request).annotate(member_count=models.Count("members"))

    def get_inlines(self, request: HttpRequest, obj: Audience | None) -> Any:
        """A form that was shown is read as it was shown, even if members have come in the meantime."""
        if request.method == "POST":
            with_members = "members-TOTAL_FORMS" in request.POST
        else:
            with_members = obj is None or obj.members.all()[: _FEW + 1].count() <= _FEW
        return (MemberInline, InclusionInline) if with_members else (InclusionInline,)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """More than anybody could look through are not deleted along with their audience."""
        crowded = [audience for audience in objs if _are_too_many(audience.members.all())]
        if not crowded:
            return super().get_deleted_objects(objs, request)
        text = _("“%(name)s” has more than %(most)s members: import a file without rows in their place first.")
        return [], {}, set(), [text % {"name": audience, "most": changes.MOST} for audience in crowded]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<int:pk>/dry-run/", view(self.dry_run), name="workflows_audience_dry_run"),
            path("<int:pk>/export/", view(self.export), name="workflows_audience_export"),
            *super().get_urls(),
        ]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        audience = context.get("original")
        if audience is not None:
            context["member_count"] = audience.member_count
            context["included_in"] = audience.included_in.select_related("audience")
            context["may_import"] = imports.may_import(person(request))
            context["may_export"] = member_files.may_export(person(request))
        return super().render_change_form(request, context, *args, **kwargs)

    def dry_run(self, request: HttpRequest, pk: int) -> HttpResponse:
        audience = self.find(request, pk)
        found = rehearsal.rehearse(audience)
        return self.render_page(
            request,
            "admin/workflows/audience/dry_run.html",
            title=_("Dry run"),
            audience=audience,
            found=found,
            first=found.resolution.recipients[:_SHOWN],
        )

    def export(self, request: HttpRequest, pk: int) -> StreamingHttpResponse:
        audience = self.find(request, pk)
        if not member_files.may_export(person(request)):
            raise PermissionDenied
        rows = member_files.export(audience, by=person(request))
        return csv_file.download(f"audience-{audience.pk}.csv", member_files.COLUMNS, rows)

    @admin.display(description=gettext_lazy("members"), ordering="member_count")
    def members(self, obj: Any) -> int:
        return int(obj.member_count)


def _are_too_many(members: models.QuerySet[AudienceMember]) -> bool:
    """To be deleted at once."""
    return members.order_by()[: changes.MOST + 1].count() > changes.MOST


@admin.register(AudienceMember)
class AudienceMemberAdmin(ConfigurationAdmin[AudienceMember]):
    """The members of all audiences, in the order in which they came: that stays fast however many they are."""

    fields = ("audience", "label", "channel", "address", "is_group", "size")
    list_display = ("label", "address", "channel", "is_group", "size", "audience")
    list_filter = ("channel", "is_group", "audience")
    list_select_related = ("channel", "audience")
    search_fields = ("label", "address")
    ordering = ("pk",)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"audience": request.GET.get("audience", "")}

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """A whole list can be chosen with one click; it is replaced by a file instead."""
        if not isinstance(objs, models.QuerySet) or not _are_too_many(objs):
            return super().get_deleted_objects(objs, request)
        text = _("At most %(most)s members are deleted at once: import a file of those who stay instead.")
        return [], {}, set(), [text % {"most": changes.MOST}]


class SuppressionForm(forms.ModelForm[Suppression]):
    channel_kind = forms.ChoiceField(
        label=gettext_lazy("Channel"),
        required=False,
        choices=lambda: [("", gettext_lazy("any")), *channels.registry.choices()],
    )

    class Meta:
        model = Suppression
        fields = ("address", "channel_kind", "reason")


@admin.register(Suppression)
class SuppressionAdmin(ConfigurationAdmin[Suppression]):
    """Made and lifted, never edited: who did it, when and why is on the trail."""

    form = SuppressionForm
    list_display = ("address", "channel", "reason")
    search_fields = ("address",)

    def has_change_permission(self, request: HttpRequest, obj: Suppression | None = None) -> bool:
        return False

    @admin.display(description=gettext_lazy("channel"), ordering="channel_kind")
    def channel(self, obj: Suppression) -> str:
        return str(dict(channels.registry.choices()).get(obj.channel_kind, obj.channel_kind) or _("any"))
