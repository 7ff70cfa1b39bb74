"""Reasons are cleaned as the audit trail does it; what it refuses is refused in the loop's own words."""

from audit import reasons
from workflows.domain.errors import Invalid


def clean_reason(text: str) -> str:
    """As it is stored. Raises Invalid when it is too long."""
    try:
        return reasons.clean(text)
    except reasons.TooLong as error:
        raise Invalid(str(error), field="reason") from error
