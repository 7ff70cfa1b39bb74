"""Risky actions: what an officer is shown, and what the decision is bound to. Every other file is one action.

An action describes; carrying it out is a service's work (workflows.services.approvals), because only services change
state. It sees plain dataclasses, never a model.
"""

import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from workflows.domain.canonical import digest
from workflows.registry import Registry, discover

Subject = TypeVar("Subject")


class Action(ABC, Generic[Subject]):
    """The contract of a risky action."""

    kind: ClassVar[str]
    """The name by which the policy requires approval."""
    label: ClassVar[Any]

    @abstractmethod
    def preview(self, subject: Subject) -> dict[str, Any]:
        """Everything the officer is shown, as JSON: content, reach, time. Nothing that matters is left out."""

    def content_digest(self, subject: Subject) -> str:
        """What the decision is bound to: the preview itself, so that what is approved is what was seen."""
        return digest(self.preview(subject))


registry: Registry[Action[Any]] = Registry("action")
register = registry.register
discover(sys.modules[__name__])
