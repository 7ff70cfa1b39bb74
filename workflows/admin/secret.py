from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from compliance_bot.guardrails import secrets as stores
from workflows.admin.base import HouseAdmin, person
from workflows.domain.errors import Invalid
from workflows.models import SecretRef
from workflows.services import secrets


class SecretForm(forms.ModelForm[SecretRef]):
    """Takes a new value once and never shows one."""

    store = forms.ChoiceField(label=_("Store"))
    value = forms.CharField(
        label=_("New value"),
        required=False,
        strip=True,
        max_length=60_000,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("Stored encrypted outside the database and never shown again. Empty keeps the present value."),
    )

    class Meta:
        model = SecretRef
        fields = ("name", "store", "owner", "note")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "store" in self.fields:  # who may only look has no fields
            self.fields["store"].choices = [(store.kind, store.label) for store in stores.stores()]  # type: ignore[attr-defined]
        if self.instance.pk and "name" in self.fields:
            self.fields["name"].disabled = True  # the store knows the value by this name

    def clean(self) -> dict[str, Any]:
        cleaned = dict(super().clean() or {})
        store = stores.get(cleaned["store"]) if cleaned.get("store") else None
        if store and store.writable and not self.instance.pk and not cleaned.get("value"):
            self.add_error("value", _("A new secret needs its value."))
        if store and not store.writable and cleaned.get("value"):
            self.add_error("value", _("This store is read-only: put the value where the store reads it."))
        return cleaned


@admin.register(SecretRef)
class SecretRefAdmin(HouseAdmin[SecretRef]):
    form = SecretForm
    list_display = ("name", "store", "owner", "rotated_at", "note")
    list_select_related = ("owner",)
    search_fields = ("name", "note")
    readonly_fields = ("rotated_at",)

    def get_fields(self, request: HttpRequest, obj: SecretRef | None = None) -> Any:
        value = ["value"] if obj is None or self.has_change_permission(request, obj) else []
        return ["name", "store", *value, "owner", "note", "rotated_at"]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"owner": request.user.pk}

    def save_model(self, request: HttpRequest, obj: SecretRef, form: Any, change: bool) -> None:  # noqa: FBT001
        super().save_model(request, obj, form, change)
        if value := form.cleaned_data["value"]:
            try:
                waits = secrets.store(secret=obj, value=value, by=person(request))
            except Invalid as error:
                self.message_user(request, str(error), level="ERROR")
            else:
                if waits is not None:
                    told = _("The old value stays in use until a second person has approved the new one.")
                    self.message_user(request, told, level="WARNING")
