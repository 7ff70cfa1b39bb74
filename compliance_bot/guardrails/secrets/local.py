"""Secrets in an encrypted file beside the database, the key in another: a stolen database tells nothing.

``secret-store.key`` holds Fernet keys, one a line, newest first. To rotate: put a line of ``new_key()`` on
top, call ``reencrypt``, remove the old line. ``secrets.json`` maps names to tokens.
"""

import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from compliance_bot.guardrails.secrets import (
    SecretMissing,
    SecretStore,
    SecretStoreUnsafe,
    SecretUnreadable,
    check_name,
    check_value,
    register,
)


@register
class LocalStore(SecretStore):
    """Writers queue on a lock file; readers see the old file or the new one, never a half."""

    kind = "local"
    label = _("Encrypted file on this server")
    writable = True

    def read(self, name: str) -> str:
        check_name(name)
        token = _token(_tokens(), name)  # first: of a store that holds nothing yet, nothing is missing but this
        return _open(_keys(), name, token)

    def write(self, name: str, value: str) -> None:
        check_name(name)
        check_value(value)
        with _writer():
            tokens = _tokens()
            # A new key beside old values would make them look damaged, and hide that the old key is gone.
            keys = _keys() if tokens else _keys_or_new()
            _replace(_values_file(), json.dumps({**tokens, name: _sealed(keys, name, value)}, indent=1))

    def delete(self, name: str) -> None:
        check_name(name)
        with _writer():
            tokens = _tokens()
            _token(tokens, name)
            del tokens[name]
            _replace(_values_file(), json.dumps(tokens, indent=1))

    def reencrypt(self) -> int:
        """Seal every value anew with the newest key; after that the older keys may go. Returns how many."""
        with _writer():
            if not (tokens := _tokens()):
                return 0
            keys = _keys()
            fresh = {name: _sealed(keys, name, _open(keys, name, token)) for name, token in tokens.items()}
            _replace(_values_file(), json.dumps(fresh, indent=1))
            return len(fresh)


def new_key() -> str:
    """A line for the key file."""
    return Fernet.generate_key().decode()


def _key_file() -> Path:
    return Path(settings.DATA_DIR) / "secret-store.key"


def _values_file() -> Path:
    return Path(settings.DATA_DIR) / "secrets.json"


def _sealed(keys: MultiFernet, name: str, value: str) -> str:
    # The name goes inside, so that nobody who can write the file can pass one secret off as another.
    return keys.encrypt(json.dumps([name, value]).encode()).decode()


def _open(keys: MultiFernet, name: str, token: str) -> str:
    with suppress(InvalidToken):
        sealed_name, value = json.loads(keys.decrypt(token.encode()))
        if sealed_name == name:
            return str(value)
    raise SecretUnreadable(
        f"The secret {name!r} was sealed with another key or damaged: restore {_key_file()} as it was when"
        " the secret was stored, or store the secret again."
    )


def _token(tokens: dict[str, str], name: str) -> str:
    if name not in tokens:
        raise SecretMissing(name, "store it first")
    return tokens[name]


def _tokens() -> dict[str, str]:
    """What is stored, still sealed."""
    path = _values_file()
    try:
        tokens = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SecretUnreadable(f"{path} cannot be read ({error.strerror}): check its owner.") from error
    except ValueError:
        tokens = None
    if isinstance(tokens, dict) and all(isinstance(token, str) for token in tokens.values()):
        return tokens
    raise SecretUnreadable(f"{path} is damaged: restore it from a backup.")


def _keys() -> MultiFernet:
    path = _key_file()
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise SecretStoreUnsafe(f"{path} is open to other users: run 'chmod 600 {path}'.")
            lines = [line.strip() for line in file]
    except FileNotFoundError:
        raise SecretUnreadable(f"{path} is missing: restore it from a backup.") from None
    except OSError as error:
        raise SecretUnreadable(f"{path} cannot be read ({error.strerror}): check its owner.") from error
    keys = [_key(path, number, line) for number, line in enumerate(lines, start=1) if line]
    if not keys:
        raise SecretUnreadable(f"{path} holds no key: restore it from a backup.")
    return MultiFernet(keys)


def _key(path: Path, number: int, line: str) -> Fernet:
    try:
        return Fernet(line)
    except ValueError:
        problem = SecretUnreadable(f"Line {number} of {path} is not a key: restore the file from a backup.")
    raise problem  # out here, so that nothing about the line is carried along


def _keys_or_new() -> MultiFernet:
    """Only under the lock: two processes must not each make a key."""
    if not _key_file().exists():
        _replace(_key_file(), new_key() + "\n")
    return _keys()


@contextmanager
def _writer() -> Iterator[None]:
    """One writer at a time, across processes and threads; the lock goes with its holder."""
    folder = _values_file().parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / "secret-store.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    """Put a whole new file, mode 0600, in place of ``path``; on disk when this returns."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)
