"""Where items come from. Every other file in this package is one adapter.

An adapter knows one kind of source and nothing of the rest of the system: it is given its configuration,
what it remembered, and the guarded HTTP session, and it gives back items or raises ``SourceError``.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms

from compliance_bot.guardrails.http import GuardedSession
from workflows.domain.items import Fetched
from workflows.registry import Registry, discover


class SourceError(Exception):
    """The source could not be read; the message is a plain sentence for a person.

    ``retry_after``: seconds that the source asked us to stay away, if it did.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Source(ABC):
    """The contract of a source adapter."""

    kind: ClassVar[str]
    label: ClassVar[Any]
    config_form: ClassVar[type[forms.Form]]
    """Declares and validates the configuration; the admin form derives from it."""

    @abstractmethod
    def fetch(self, config: Mapping[str, Any], state: Mapping[str, str], http: GuardedSession) -> Fetched:
        """Ask the source once. Raises SourceError; anything else is a bug."""


registry: Registry[Source] = Registry("source")
register = registry.register
discover(sys.modules[__name__])
