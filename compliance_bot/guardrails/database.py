"""Database triggers: rules that hold even against whoever goes round the application."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.signals import post_migrate

# Name and definition of the triggers in a database; PostgreSQL's with the function that they call.
_STORED = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": """SELECT t.tgname, replace(pg_get_triggerdef(t.oid), ' ON ' || n.nspname || '.', ' ON ') || p.prosrc
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_proc p ON p.oid = t.tgfoid
        WHERE NOT t.tgisinternal AND t.tgenabled = 'A' AND n.nspname = current_schema()""",
}
_FUNCTION = re.compile(r"CREATE FUNCTION (\w+)\(\).*?\$\$(.*?)\$\$", re.DOTALL)
_TRIGGER = re.compile(r"CREATE TRIGGER (\w+) [^;]*EXECUTE FUNCTION (\w+)\(\)")


def _written(vendor: str, script: str) -> dict[str, str]:
    """By name, the definitions as the database hands them out, white space aside."""
    if vendor == "sqlite":
        statements = [statement.rstrip(";") for statement in script.strip().split("\n\n")]
        return {statement.split()[2]: " ".join(statement.split()) for statement in statements}
    bodies = dict(_FUNCTION.findall(script))
    return {found[1]: " ".join((found[0] + bodies[found[2]]).split()) for found in _TRIGGER.finditer(script)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """A set of triggers. ``tables`` says on which table each stands.

    ``sqlite`` holds one statement a trigger, parted by empty lines. ``postgresql`` is one script; a trigger named X may
    call a function named X, and stands ENABLE ALWAYS, so that a replication role does not silence it.
    """

    tables: Mapping[str, str]
    sqlite: str
    postgresql: str

    def install(self, connection: BaseDatabaseWrapper) -> None:
        """Drop and create all; safe to repeat. SQLite drops triggers when Django rebuilds a table."""
        self.remove(connection)
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                for statement in self.sqlite.strip().split("\n\n"):
                    cursor.execute(statement)
            else:
                cursor.execute(self.postgresql)

    def remove(self, connection: BaseDatabaseWrapper) -> None:
        """For a migration that has to rewrite the tables; ``install`` comes after it."""
        with connection.cursor() as cursor:
            for name, table in self.tables.items():
                if connection.vendor == "sqlite":
                    cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
                else:
                    cursor.execute(f"DROP TRIGGER IF EXISTS {name} ON {table}")
            if connection.vendor == "postgresql":
                for name in self.tables:
                    cursor.execute(f"DROP FUNCTION IF EXISTS {name}()")

    def missing(self, connection: BaseDatabaseWrapper) -> set[str]:
        """Names of the triggers that are not there, do something else, or could be silenced.

        Empty where the tables do not exist yet.
        """
        if not set(self.tables.values()) <= set(connection.introspection.table_names()):
            return set()
        script = self.sqlite if connection.vendor == "sqlite" else self.postgresql
        wanted = _written(connection.vendor, script)
        with connection.cursor() as cursor:
            cursor.execute(_STORED[connection.vendor])
            there = {name: " ".join(definition.split()) for name, definition in cursor.fetchall()}
        return {name for name in self.tables if there.get(name) != wanted[name]}

    def watch(self, app: AppConfig) -> None:
        """Install after every migration of ``app``, and let ``check --database`` say when one is missing."""

        def install(using: str, **kwargs: Any) -> None:
            self.install(connections[using])

        def are_there(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
            return [
                Error(
                    f"the database lacks its guards: {', '.join(sorted(missing))}",
                    hint="Run manage.py migrate, which installs them, and find out who dropped them.",
                    id=f"{app.label}.E002",
                )
                for alias in databases or []
                if (missing := self.missing(connections[alias]))
            ]

        post_migrate.connect(install, sender=app, weak=False)
        register(are_there, Tags.database)
