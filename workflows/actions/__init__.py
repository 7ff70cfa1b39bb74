"""Risky actions: what an officer is shown, and what the decision is bound to. Every other file is one action.

An action describes; carrying it out is a service's work (workflows.services.approvals), because only services change
state. It sees plain dataclasses, never a model.
"""

import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from django.utils.translation import gettext as _
from django.utils.translation import ngettext_lazy

from workflows.domain.canonical import digest
from workflows.domain.changes import ChangeSet
from workflows.registry import Registry, discover

Subject = TypeVar("Subject")


class Action(ABC, Generic[Subject]):
    """The contract of a risky action."""

    kind: ClassVar[str]
    """The name by which the policy requires approval."""
    label: ClassVar[Any]
    reach: ClassVar[Any] = ngettext_lazy("%(n)s person", "%(n)s people", "n")
    """What its size counts."""

    def in_words(self, size: int | None) -> str:
        """How far it reaches; None: nobody could count."""
        return _("unknown") if size is None else str(self.reach % {"n": size})

    @abstractmethod
    def preview(self, subject: Subject) -> dict[str, Any]:
        """Everything the officer is shown, as JSON: content, reach, time. Nothing that matters is left out."""

    def content_digest(self, subject: Subject) -> str:
        """What the decision is bound to: the preview itself, so that what is approved is what was seen."""
        return digest(self.preview(subject))


class ChangeAction(Action[ChangeSet]):
    """The contract of an action that changes stored objects: configuration, people, policy."""

    reach = ngettext_lazy("%(n)s object", "%(n)s objects", "n")
    rank: ClassVar[int]
    """Where several actions are concerned, the request goes by the lowest."""

    @abstractmethod
    def concerns(self, changes: ChangeSet) -> bool:
        """Whether these changes are of this action's kind."""

    def preview(self, subject: ChangeSet) -> dict[str, Any]:
        """Field by field; the digest binds what is not shown, such as a password's hash."""
        return {"changes": list(subject.shown), "bound_to": subject.digest}


registry: Registry[Action[Any]] = Registry("action")
register = registry.register
discover(sys.modules[__name__])


def concerned(changes: ChangeSet) -> list[ChangeAction]:
    """The actions as which these changes have to be approved, the gravest first."""
    kinds = sorted((kind for kind in registry if isinstance(kind, ChangeAction)), key=lambda kind: kind.rank)
    return [kind for kind in kinds if kind.concerns(changes)]
