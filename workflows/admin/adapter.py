"""Forms and pages whose configuration fields come from the adapter of their kind."""

from collections.abc import Mapping
from typing import Any, TypeVar

from django import forms
from django.contrib import admin
from django.core.exceptions import NON_FIELD_ERRORS
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from workflows.admin.base import ConfigurationAdmin, lines
from workflows.models import Channel, Source
from workflows.registry import Registry

M = TypeVar("M", Source, Channel)
_PREFIX = "config_"


class AdapterForm(forms.ModelForm[M]):
    """Adds the fields of ``config_form`` to the model's own and stores them in ``config``.

    A subclass names its ``registry``. The kind is chosen when the object is made and stays.
    """

    registry: Registry[Any]
    adapter: Any
    also_writes = ("config",)

    kind = forms.ChoiceField(label=_("Kind"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = self.registry.choices()
        self.fields["kind"].choices = choices  # type: ignore[attr-defined]
        if self.instance.pk:
            self.fields["kind"].disabled = True
        chosen = self.data.get("kind") or self.initial.get("kind")
        self.adapter = adapter_of(self.registry, self.instance.kind if self.instance.pk else chosen)
        self.fields["kind"].initial = self.adapter.kind
        if not self.instance.pk and len(choices) > 1:
            self.fields["kind"].widget = forms.HiddenInput()  # the page has a link for each kind
        for name, field in self.adapter.config_form().fields.items():
            field.initial = self.instance.config.get(name, field.initial)
            self.fields[_PREFIX + name] = field

    def clean(self) -> dict[str, Any]:
        """The adapter's own form judges its part, so that its clean methods apply."""
        cleaned = dict(super().clean() or {})
        config = self.adapter.config_form(data=self._config_data())
        if config.is_valid():
            self.instance.config = dict(config.cleaned_data)
        for name, errors in config.errors.items():
            own = _PREFIX + name if name != NON_FIELD_ERRORS else None
            if own is None or own not in self.errors:
                self.add_error(own, errors.as_data())
        return cleaned

    @classmethod
    def adapter_fields(cls, adapter: Any) -> list[str]:
        """The names under which an adapter's fields stand in the form."""
        return [_PREFIX + name for name in adapter.config_form().fields]

    def _config_data(self) -> Mapping[str, Any]:
        return {name: self.data.get(self.add_prefix(_PREFIX + name)) for name in self.adapter.config_form().fields}


def _chosen(request: HttpRequest) -> str | None:
    """The kind of a new object: the form's own word, else the page's."""
    return request.POST.get("kind") or request.GET.get("kind")


def adapter_of(registry: Registry[Any], kind: str | None) -> Any:
    """The adapter whose fields a form shows: of this kind, else of the first; the form itself refuses a wrong kind."""
    adapters = {adapter.kind: adapter for adapter in registry}
    return adapters.get(kind or "", next(iter(adapters.values())))


class AdapterAdmin(ConfigurationAdmin[M]):
    """Pages of what an adapter configures. Who may only look is shown the values instead of the form."""

    form: type[AdapterForm[M]]
    own_fields: tuple[str, ...]
    """The model's fields that stand after the adapter's."""
    facts: tuple[str, ...]
    """What services found out, shown once the object exists."""

    def get_fieldsets(self, request: HttpRequest, obj: M | None = None) -> Any:
        if obj is not None and not self.has_change_permission(request, obj):
            return [(None, {"fields": ["name", "kind_label", "configured", *self.own_fields, *self.facts]})]
        adapter: Any = adapter_of(self.form.registry, obj.kind if obj else _chosen(request))
        fields = (None, {"fields": ["name", "kind", *self.form.adapter_fields(adapter), *self.own_fields]})
        return [fields] if obj is None else [fields, (_("Health"), {"fields": self.facts})]

    def get_readonly_fields(self, request: HttpRequest, obj: M | None = None) -> Any:
        return ("kind_label", "configured", *self.facts)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"kind": request.GET.get("kind", "")}

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if context.get("original") is None:
            context["kinds"] = self.form.registry.choices()
            context["chosen_kind"] = adapter_of(self.form.registry, _chosen(request)).kind
        return super().render_change_form(request, context, *args, **kwargs)

    def get_form(self, request: HttpRequest, obj: Any = None, *args: Any, **kwargs: Any) -> Any:
        kwargs["fields"] = ["name", "kind", *self.own_fields]  # the rest of the fieldsets is the adapter's
        return super().get_form(request, obj, *args, **kwargs)

    @admin.display(description=_("kind"))
    def kind_label(self, obj: M) -> str:
        return str(dict(self.form.registry.choices()).get(obj.kind, obj.kind))

    @admin.display(description=_("configuration"))
    def configured(self, obj: M) -> SafeString:
        return lines(f"{name}: {value}" for name, value in obj.config.items())
