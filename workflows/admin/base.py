"""What the admin pages share."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db import models
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from compliance_bot.guardrails.paging import BoundedPaginator, CalmList
from workflows.domain.errors import WorkflowError

M = TypeVar("M", bound=models.Model)


class HouseAdmin(CalmList, admin.ModelAdmin[M]):
    """Lists stay fast on big tables; nothing is deleted from a page unless a subclass says so."""

    show_full_result_count = False
    paginator = BoundedPaginator
    list_per_page = 50
    actions: Any = None

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    def back(self, obj: models.Model) -> HttpResponseRedirect:
        """To the object's own page."""
        return HttpResponseRedirect(change_url(obj))

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """A form starts empty, whatever the address says."""
        return {}

    def save_model(self, request: HttpRequest, obj: M, form: Any, change: bool) -> None:  # noqa: FBT001
        """Only what the form is about: a row that a service moves meanwhile is not put back."""
        if not change:
            super().save_model(request, obj, form, change)
            return
        columns = {field.name for field in obj._meta.concrete_fields}
        obj.save(update_fields=sorted(columns & {*form.cleaned_data, *getattr(form, "also_writes", ())}))

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponseRedirect:
        """An object's history is its part of the trail; there is no second one."""
        obj = self.find(request, object_id)
        query = urlencode({"object": f"{obj._meta.label_lower}:{obj.pk}"})
        return HttpResponseRedirect(f"{reverse('admin:audit_auditevent_changelist')}?{query}")

    def find(self, request: HttpRequest, pk: int | str) -> M:
        """The object, if this person may look at it. Raises Http404 otherwise: who may not look learns nothing."""
        obj = self.get_object(request, str(pk))
        if obj is None or not self.has_view_permission(request, obj):
            raise Http404
        return obj

    def carry_out(self, request: HttpRequest, done: str, call: Callable[[], object]) -> bool:
        """Call a service and tell the person what came of it, in the service's own words if it refused."""
        try:
            call()
        except WorkflowError as error:
            messages.error(request, str(error))
            return False
        messages.success(request, done)
        return True

    def render_page(self, request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
        """A page of our own inside the admin's frame."""
        return TemplateResponse(
            request, template, {**self.admin_site.each_context(request), "opts": self.opts, **context}
        )


class ConfigurationAdmin(HouseAdmin[M]):
    """What may be deleted, as long as nothing refers to it: many at once only with approval (workflows.admin.changes).

    A list's "delete selected" goes the same way as the page of one object.
    """

    actions = ("delete_selected",)

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What is still in use stays: say by what, rather than that a right to delete that is missing too."""
        deletable, counts, lacking, in_use = super().get_deleted_objects(objs, request)
        return deletable, counts, set() if in_use else lacking, in_use


class ReadOnlyAdmin(HouseAdmin[M]):
    """Rows that services write: looked at, never edited."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False


def person(request: HttpRequest) -> User:
    """Who is signed in; the admin lets nobody else come this far."""
    assert isinstance(request.user, User)  # noqa: S101 - admin_view guards every page
    return request.user


def change_url(obj: models.Model) -> str:
    return reverse(f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change", args=[obj.pk])


def link(obj: models.Model | None) -> str | SafeString:
    """A link to an object's page, or a dash."""
    return "–" if obj is None else format_html('<a href="{}">{}</a>', change_url(obj), obj)


def badge(state: str, label: object) -> SafeString:
    """A state as a coloured word; templates/static/compliance/house.css knows the colours."""
    return format_html('<span class="badge badge-{}">{}</span>', state, label)


def lines(texts: Iterable[str]) -> SafeString:
    """Plain sentences, one a line."""
    return format_html('<ul class="notes">{}</ul>', format_html_join("", "<li>{}</li>", ((text,) for text in texts)))
