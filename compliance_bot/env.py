"""Loud typed readers of the environment: a wrong value stops the start and names its variable."""

import contextlib
import os
import secrets
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

_env = environ.Env()


def text(name: str, default: str) -> str:
    """A string; ``NAME_FILE`` may name a file that holds it (for secrets mounted as files)."""
    # Read from the mapping itself: django-environ takes a value that starts with "$" for a reference.
    file = _env.ENVIRON.get(f"{name}_FILE")
    if file is None:
        return str(_env.ENVIRON.get(name, default))
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE: cannot read {file} ({error.strerror})") from error


def key(name: str, file: Path) -> str:
    """A secret key: from the environment, or from a file that is made on the first start (mode 0600)."""
    given = text(name, "")
    if given:
        return given
    try:
        if file.exists():
            return file.read_text(encoding="ascii").strip()
        file.parent.mkdir(parents=True, exist_ok=True)
        # Another process may be first: whoever links the finished file wins, and all read the same one.
        draft = file.with_name(f"{file.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(secrets.token_urlsafe(50))
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
        draft.unlink()
        return file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}: cannot keep a key in {file} ({error.strerror})") from error


def flag(name: str, *, default: bool) -> bool:
    value = text(name, str(default)).lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name}: {value!r} is neither true nor false")


def number(name: str, default: int) -> int:
    value = text(name, str(default))
    try:
        return int(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {value!r} is not a whole number") from error


def words(name: str, default: str = "") -> list[str]:
    """A comma-separated list; empty entries are dropped."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = text(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name}: {value!r} is not one of {', '.join(allowed)}")
    return value


def database(url: str) -> dict[str, object]:
    """A database address such as postgres://user:password@host:5432/name, as Django wants it."""
    if not url.startswith(("postgres://", "postgresql://")):
        raise ImproperlyConfigured("DATABASE_URL: not a database address (postgres://user:password@host:5432/name)")
    return dict(environ.Env.db_url_config(url))
