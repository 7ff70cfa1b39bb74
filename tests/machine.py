"""What this machine has for tests that need more than Python."""

import getpass
import os
import shutil
from contextlib import suppress
from functools import cache

import psycopg
import pytest


@cache
def postgresql() -> str:
    """A database address with the right to create databases, or "". TEST_DATABASE_URL names one."""
    candidates = [os.environ.get("TEST_DATABASE_URL"), f"postgres://{getpass.getuser()}@127.0.0.1:5432/postgres"]
    for url in filter(None, candidates):
        with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=3) as connection:
            row = connection.execute("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user")
            if row.fetchone() == (True,):
                return url
    return ""


@cache
def redis() -> str:
    """The path of a Redis server, or ""."""
    return shutil.which("redis-server") or ""


@cache
def chromium() -> str:
    """The path of a Chromium, or ""."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""


def require(found: str, name: str) -> None:
    """Skip where a thing is missing; in CI that is a failure."""
    if found:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{name} is missing; .ci/run installs it")
    pytest.skip(f"{name} was not found on this machine")
