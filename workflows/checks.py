"""What must hold before the product may run; ``manage.py check`` and every start ask."""

from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register

from compliance_bot.guardrails import policy


@register(Tags.security)
def policy_is_readable(**kwargs: Any) -> list[CheckMessage]:
    try:
        policy.current()
    except policy.PolicyError as error:
        return [Error(str(error), hint="Mend the policy file; docs/policy.md lists every key.", id="workflows.E001")]
    return []
