"""Putting another value in the place of a stored secret. Nothing ever reveals one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from workflows.actions import Action, register


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretReplacement:
    """``fingerprint`` binds the decision to the new value and tells nobody anything about it."""

    name: str
    store: str
    used_by: Sequence[str]
    fingerprint: str


@register
class SecretReplace(Action[SecretReplacement]):
    kind = "secret_reveal_or_replace"
    label = _("Replacement of a secret")
    reach = ngettext_lazy("%(n)s channel", "%(n)s channels", "n")

    def preview(self, subject: SecretReplacement) -> dict[str, Any]:
        return {
            "secret": subject.name,
            "store": subject.store,
            "used_by": list(subject.used_by),
            "fingerprint": subject.fingerprint,
        }
