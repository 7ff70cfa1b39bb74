"""Where secrets live. Configuration holds a secret's name; every other file in this package is one store.

A store is asked at the moment of use, so that a rotated secret counts at once, and what it returns is never
kept, logged or shown. The messages of the errors are for people: they name the secret and a remedy, never a
value.
"""

import importlib
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

MAX_BYTES = 64 * 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")


class SecretError(Exception):
    """Base of all; the message is a sentence with a remedy."""


class SecretMissing(SecretError):
    """No secret of this name is stored. ``name`` is what was asked for."""

    def __init__(self, name: str, remedy: str) -> None:
        super().__init__(f"There is no secret called {name!r}: {remedy}.")
        self.name = name


class SecretUnreadable(SecretError):
    """Something is stored and cannot be read: a wrong key, a damaged file."""


class SecretStoreUnsafe(SecretError):
    """The store is open to others than its owner, so it refuses to work."""


class SecretReadOnly(SecretError):
    """This store only reads."""


class SecretInvalid(SecretError):
    """A name or a value that no store takes."""


class SecretStore(ABC):
    """The contract of a store. Stores hold no state between calls; several processes use them at once."""

    kind: ClassVar[str]
    label: ClassVar[Any]  # str or a lazy translation
    writable: ClassVar[bool] = False

    @abstractmethod
    def read(self, name: str) -> str:
        """The value. Raises SecretMissing, SecretInvalid; and what else is wrong as another SecretError."""

    def write(self, name: str, value: str) -> None:
        """Store or replace a value of 1 byte to 64 KiB in UTF-8, durably before this returns."""
        raise self._read_only()

    def delete(self, name: str) -> None:
        """Remove a value; raises SecretMissing where there is none."""
        raise self._read_only()

    def _read_only(self) -> SecretReadOnly:
        return SecretReadOnly(f"{self.label}: secrets are only read here; change them where they are kept.")


def check_name(name: str) -> None:
    """Raises SecretInvalid. The name is shown: somebody may have pasted a value, so at most 20 characters."""
    if not _NAME.fullmatch(name):
        raise SecretInvalid(
            f"{name[:20]!r} is not a name for a secret: use a-z, 0-9, '_', '.' and '-', at most 100 of them,"
            " and begin with a letter or a digit."
        )


def check_value(value: str) -> None:
    """Raises SecretInvalid for a value that is empty, too long, or not text."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        size = -1
    # Raised out here, as the encoding error would carry the value along.
    if size < 0:
        raise SecretInvalid("The secret holds characters that are not valid text; copy it again.")
    if size == 0:
        raise SecretInvalid("The secret is empty; delete it instead.")
    if size > MAX_BYTES:
        raise SecretInvalid(f"The secret has {size} bytes; at most {MAX_BYTES} are stored.")


_stores: dict[str, SecretStore] = {}


def register(store: type[SecretStore]) -> type[SecretStore]:
    """Class decorator: one instance serves all calls."""
    if store.kind in _stores:
        raise ValueError(f"two secret stores are called {store.kind!r}")
    _stores[store.kind] = store()
    return store


def get(kind: str) -> SecretStore:
    """Raises LookupError for a kind that is not installed."""
    try:
        return _stores[kind]
    except KeyError:
        known = ", ".join(sorted(_stores))
        raise LookupError(f"no secret store of kind {kind!r} is installed (there are: {known})") from None


def stores() -> Iterator[SecretStore]:
    """All stores, by kind."""
    return iter(sorted(_stores.values(), key=lambda store: store.kind))


# A store that fails to import fails loudly, here.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
