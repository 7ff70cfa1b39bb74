"""What must hold before the product may run; ``manage.py check`` and every start ask."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from compliance_bot.guardrails import policy
from workflows.services import policies


@register(Tags.security)
def policy_is_readable(**kwargs: Any) -> list[CheckMessage]:
    try:
        policy.load(settings.POLICY_FILE)
    except policy.PolicyError as error:
        return [Error(str(error), hint="Mend the policy file; docs/policy.md lists every key.", id="workflows.E001")]
    return []


@register(Tags.database)
def policy_overrides_are_usable(databases: Any, **kwargs: Any) -> list[CheckMessage]:
    if not databases:
        return []
    return [_finding(key, problem) for key, problem in policies.unusable_overrides().items()]


def _finding(key: str, problem: str) -> CheckMessage:
    if key in policy.KEYS:
        text = f"A policy override cannot be used, so no policy is in force: {problem}"
        return Error(text, hint=f"Delete the row {key} of the table workflows_policyoverride.", id="workflows.E002")
    hint = "Delete it on the admin's page Policy."
    return Warning(f"A policy override is ignored: {problem}", hint=hint, id="workflows.W001")
