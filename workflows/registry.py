"""Adapters announce themselves: one file, one decorated class, no list to edit."""

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar, Generic, Protocol, TypeVar


class Adapter(Protocol):
    """What every adapter has: a stable key for the database and a name for people."""

    kind: ClassVar[str]
    label: ClassVar[Any]  # str or a lazy translation


A = TypeVar("A", bound=Adapter)


class UnknownKind(LookupError):
    """No adapter of this kind is installed."""


class Registry(Generic[A]):
    """The adapters of one package, by kind.

    A module that fails to import fails loudly, and so does a kind that is taken twice.
    """

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._adapters: dict[str, A] = {}

    def register(self, adapter: type[A]) -> type[A]:
        """Class decorator: one instance of the class serves all calls, so adapters hold no state."""
        if adapter.kind in self._adapters:
            raise ValueError(f"two {self._noun} adapters are called {adapter.kind!r}")
        self._adapters[adapter.kind] = adapter()
        return adapter

    def get(self, kind: str) -> A:
        try:
            return self._adapters[kind]
        except KeyError:
            known = ", ".join(sorted(self._adapters)) or "none"
            raise UnknownKind(f"no {self._noun} of kind {kind!r} is installed (there are: {known})") from None

    def choices(self) -> list[tuple[str, Any]]:
        """(kind, label) pairs for a form; models store the kind without choices."""
        return [(adapter.kind, adapter.label) for adapter in self]

    def __iter__(self) -> Iterator[A]:
        return iter(sorted(self._adapters.values(), key=lambda adapter: adapter.kind))


def discover(package: ModuleType) -> None:
    """Import every module of ``package`` so that its adapters register."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
