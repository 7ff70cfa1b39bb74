"""What must hold before the product may run; ``manage.py check`` and every start ask."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

from compliance_bot.guardrails import policy
from workflows import triggers
from workflows.models import ApprovalDecision


@register(Tags.security)
def policy_is_readable(**kwargs: Any) -> list[CheckMessage]:
    try:
        policy.current()
    except policy.PolicyError as error:
        return [Error(str(error), hint="Mend the policy file; docs/policy.md lists every key.", id="workflows.E001")]
    return []


@register(Tags.database)
def triggers_are_installed(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Only once the tables exist: before the first migration there is nothing to guard."""
    messages: list[CheckMessage] = []
    for alias in databases or []:
        connection = connections[alias]
        if ApprovalDecision._meta.db_table not in connection.introspection.table_names():
            continue
        if missing := triggers.missing(connection):
            messages.append(
                Error(
                    f"the database lacks its guards: {', '.join(sorted(missing))}",
                    hint="Run manage.py migrate, which installs them, and find out who dropped them.",
                    id="workflows.E002",
                )
            )
    return messages
