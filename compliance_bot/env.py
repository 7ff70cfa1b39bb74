"""Loud typed readers of the environment: a wrong value stops the start and names its variable."""

import contextlib
import ipaddress
import os
import secrets
from collections.abc import Collection
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

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


def networks(name: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """A comma-separated list of addresses and networks, such as 127.0.0.1,10.0.0.0/8."""
    found = []
    for word in words(name):
        try:
            found.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise ImproperlyConfigured(f"{name}: {word!r} is neither an address nor a network (10.0.0.0/8)") from error
    return found


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


def receiver(name: str, schemes: Collection[str]) -> str:
    """Where to send something, such as tls://host:6514; empty for nowhere."""
    value = text(name, "")
    parts = _split(name, value)
    if value and (parts.scheme not in schemes or not parts.port or parts.path or parts.query or parts.fragment):
        known = ", ".join(f"{scheme}://host:port" for scheme in schemes)
        raise ImproperlyConfigured(f"{name}: not one of {known}")
    return value


def web_address(name: str, *, plain: Collection[str]) -> str:
    """An https address, empty for none. ``plain``: the hosts for which http is good enough."""
    value = text(name, "")
    parts = _split(name, value)
    if value and parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in plain):
        raise ImproperlyConfigured(f"{name}: must begin with https://")
    return value


def _split(name: str, value: str) -> SplitResult:
    """The parts of an address; the error never repeats one that could hold a password."""
    try:
        parts = urlsplit(value)
        wrong = (bool(value) and not parts.hostname) or parts.port == 0 or "@" in parts.netloc
    except ValueError:
        wrong = True
    if wrong or not (value.isascii() and value.isprintable()) or " " in value:
        raise ImproperlyConfigured(f"{name}: not an address (scheme://host:port, without a user name)")
    return parts


def header(name: str) -> str:
    """A value that travels in an HTTP header."""
    value = text(name, "")
    if not (value.isascii() and value.isprintable()):
        raise ImproperlyConfigured(f"{name}: holds characters that no HTTP header may hold")
    return value


def file(name: str) -> str:
    """The path of a file that can be read; empty for none."""
    value = text(name, "")
    if value and not os.access(value, os.R_OK):
        raise ImproperlyConfigured(f"{name}: cannot read {value}")
    return value


def mail_addresses(name: str, *, server: str) -> list[str]:
    """Addresses that mail goes to by the server that the variable ``server`` names."""
    found = words(name)
    if found and not text(server, ""):
        raise ImproperlyConfigured(f"{name}: no mail can be sent without {server}; set it too")
    for address in found:
        if address.count("@") != 1 or not address.isprintable() or " " in address:
            raise ImproperlyConfigured(f"{name}: {address!r} is not a mail address")
    return found


def mail(name: str) -> dict[str, object]:
    """Django's mail settings, from an address such as smtp+tls://user:password@host:587. Empty: to the console."""
    value = text(name, "") or "consolemail://"
    try:
        found = dict(environ.Env.email_url_config(value))
    except (ImproperlyConfigured, KeyError, ValueError):
        found = {}
    if not found or (value.startswith("smtp") and not (found["EMAIL_HOST"] and found["EMAIL_PORT"])):
        raise ImproperlyConfigured(f"{name}: not a mail server's address (smtp+tls://user:password@host:587)")
    # What the address leaves out keeps Django's default.
    return {key: setting for key, setting in found.items() if setting is not None}
