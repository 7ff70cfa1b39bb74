"""A change of stored objects as plain data: what each object was, and what it is to become."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from workflows.domain.canonical import digest

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One object. ``before`` and ``after`` are its fields as JSON values, many-to-many relations as lists of keys.

    ``before`` is None for a new object: then ``key`` is the one by which other changes of the set refer to it, and it
    gets another when the change is carried out, unless ``restores`` says that it is to have just this one again.
    """

    model: str
    key: int
    label: str
    before: Row | None
    after: Row | None
    in_service: bool = False
    """Whether an active workflow depends on it."""
    restores: bool = False

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)

    @property
    def fields(self) -> list[str]:
        """Which fields differ, by name (a database may keep a row's keys in an order of its own)."""
        before, after = self.before or {}, self.after or {}
        return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))

    def was(self, name: str) -> Any:
        return (self.before or {}).get(name)

    def becomes(self, name: str) -> Any:
        return (self.after or {}).get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSet:
    """What is carried out together or not at all. ``shown``: the same in words, one entry a field or object.

    ``by`` is the key of who makes the change, ``bulk`` whether many objects were chosen to be deleted at once.
    """

    changes: Sequence[Change]
    shown: Sequence[Mapping[str, Any]] = ()
    by: int | None = None
    bulk: bool = False

    @property
    def removed(self) -> list[Change]:
        return [change for change in self.changes if change.after is None]

    def dump(self) -> dict[str, Any]:
        """As JSON values; ``load`` reads them again."""
        return {"changes": [asdict(change) for change in self.changes], "by": self.by, "bulk": self.bulk}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Self:
        changes = [Change.load(change) for change in data["changes"]]
        return cls(changes=changes, by=data["by"], bulk=data["bulk"])

    @property
    def digest(self) -> str:
        """Over everything that would be written, shown or not."""
        return digest(self.dump())
