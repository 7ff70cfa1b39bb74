"""A model form whose configuration fields come from the adapter of its kind."""

from collections.abc import Mapping
from typing import Any, TypeVar

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS
from django.utils.translation import gettext_lazy as _

from workflows.models import Channel, Source
from workflows.registry import Registry

M = TypeVar("M", Source, Channel)
_PREFIX = "config_"


class AdapterForm(forms.ModelForm[M]):
    """Adds the fields of ``config_form`` to the model's own and stores them in ``config``.

    A subclass names its ``registry``. The kind is chosen when the object is made and stays.
    """

    registry: Registry[Any]

    kind = forms.ChoiceField(label=_("Kind"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = self.registry.choices()
        self.fields["kind"].choices = choices  # type: ignore[attr-defined]
        if self.instance.pk:
            self.fields["kind"].disabled = True
        self.adapter = adapter_of(self.registry, self.instance.kind if self.instance.pk else self.data.get("kind"))
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

    def _config_data(self) -> Mapping[str, Any]:
        return {name: self.data.get(self.add_prefix(_PREFIX + name)) for name in self.adapter.config_form().fields}


def adapter_of(registry: Registry[Any], kind: str | None) -> Any:
    """The adapter whose fields a form shows: of this kind, else of the first; the form itself refuses a wrong kind."""
    adapters = {adapter.kind: adapter for adapter in registry}
    return adapters.get(kind or "", next(iter(adapters.values())))


def config_field_names(adapter: Any) -> list[str]:
    """The names under which an adapter's configuration fields stand in the form."""
    return [_PREFIX + name for name in adapter.config_form().fields]
