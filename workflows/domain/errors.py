"""What a service refuses, and why, in words for the person who asked.

The admin catches only these and shows the message; anything else is a bug and propagates.
"""


class WorkflowError(Exception):
    """Base. ``code`` is stable, the message is for a person."""

    code = "refused"


class NotPermitted(WorkflowError):
    code = "not_permitted"


class FourEyesViolation(WorkflowError):
    """The decider wrote or requested what is to be decided."""

    code = "four_eyes"


class AlreadyDecided(WorkflowError):
    code = "already_decided"


class Expired(WorkflowError):
    code = "expired"


class StaleContent(WorkflowError):
    """What would happen now is not what was shown when approval was asked for."""

    code = "stale_content"


class ReasonRequired(WorkflowError):
    code = "reason_required"


class WrongState(WorkflowError):
    """The object has moved on; the action no longer applies."""

    code = "wrong_state"


class Invalid(WorkflowError):
    """Input that cannot be used; ``field`` names where."""

    code = "invalid"

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field
