from itertools import groupby
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from compliance_bot.guardrails import policy
from workflows.admin.base import HouseAdmin, person
from workflows.domain.errors import Invalid
from workflows.models import PolicyOverride
from workflows.services import policies


class OverrideForm(forms.ModelForm[PolicyOverride]):
    """A value is written as it would be in the file."""

    key = forms.ChoiceField(label=gettext_lazy("Key"), choices=[("", "–"), *((key, key) for key in policy.KEYS)])
    value = forms.CharField(
        label=gettext_lazy("Value"),
        max_length=5000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=gettext_lazy('As in the policy file: 20, true, null, "18:00" with quotes, [mass_send, bulk_delete].'),
    )

    class Meta:
        model = PolicyOverride
        fields = ("key", "value", "note")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is not None:
            self.initial["value"] = policies.as_text(self.instance.value)

    def clean_value(self) -> Any:
        key = self.cleaned_data.get("key", self.instance.key)
        if not key:
            return None  # the key's own field says what is wrong
        try:
            value = policy.read(self.cleaned_data["value"])
            policies.require_valid(key, value)
        except (policy.PolicyError, Invalid) as error:
            named = {"key": key, "problem": error}
            raise forms.ValidationError(
                _("%(key)s cannot have this value: %(problem)s. docs/policy.md tells what it can have.") % named
            ) from error
        return value


@admin.register(PolicyOverride)
class PolicyOverrideAdmin(HouseAdmin[PolicyOverride]):
    form = OverrideForm
    change_list_template = "admin/workflows/policyoverride/change_list.html"

    def get_readonly_fields(self, request: HttpRequest, obj: PolicyOverride | None = None) -> Any:
        """An override of another key is another override."""
        return () if obj is None else ("key",)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """From the list: the key, and what it has now."""
        return {name: request.GET[name] for name in ("key", "value") if name in request.GET}

    def has_delete_permission(self, request: HttpRequest, obj: PolicyOverride | None = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("acknowledge/", view(require_POST(self.ask_acknowledgement)), name="workflows_policyfile_acknowledge"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        shown = {
            "sections": _sections(),
            "waiting": policies.unacknowledged(),
            "relaxations": [
                (key, policies.as_text(in_force), policies.as_text(in_file))
                for key, in_force, in_file in policies.relaxations()
            ],
            "unusable": policies.unusable_overrides(),
        }
        return super().changelist_view(request, {**(extra_context or {}), **shown})

    def ask_acknowledgement(self, request: HttpRequest) -> HttpResponse:
        """The site's entrance takes the change back and asks for the reason."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        self.carry_out(
            request,
            _("Asked: a second person decides now."),
            lambda: policies.ask_acknowledgement(by=person(request), reason=""),
        )
        return HttpResponseRedirect(reverse("admin:workflows_policyoverride_changelist"))


def _sections() -> list[dict[str, Any]]:
    """The keys by section. Rules of actions are many and seldom changed: closed, unless one is overridden."""
    sections = []
    for name, group in groupby(policies.table(), key=lambda row: row["key"].rpartition(".")[0]):
        rows = list(group)
        is_open = not name.startswith("actions.rules.") or any(row["override"] for row in rows)
        sections.append({"name": name, "rows": rows, "is_open": is_open})
    return sections
