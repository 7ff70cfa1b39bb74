"""Secrets from the environment of the process, as containers and systemd hand them over."""

import os

from django.utils.translation import gettext_lazy as _

from compliance_bot.guardrails.secrets import SecretMissing, SecretStore, check_name, register

# SECRET_KEY is Django's own: whoever may name a secret must not be able to have it sent to a robot's address.
_TAKEN = {"SECRET_KEY", "SECRET_KEY_FILE", "SECRET_KEY_FALLBACKS"}


@register
class EnvironmentStore(SecretStore):
    """``robot.sales-key`` is read from SECRET_ROBOT_SALES_KEY. An empty variable counts as missing."""

    kind = "environment"
    label = _("Environment variables")

    def read(self, name: str) -> str:
        check_name(name)
        variable = "SECRET_" + name.upper().replace("-", "_").replace(".", "_")
        if variable in _TAKEN:
            raise SecretMissing(name, f"{variable} belongs to the product itself, choose another name")
        if not (value := os.environ.get(variable)):
            raise SecretMissing(name, f"set the variable {variable} and restart the service")
        return value
