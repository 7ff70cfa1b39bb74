"""Brings the database up to date at each start, or says who has to: the product's own role may own nothing."""

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor


def bring_up_to_date() -> None:
    """Migrate if this role may make tables; else see that nothing is left to be done. Raises CommandError."""
    if _may_make_tables():
        call_command("migrate", verbosity=0)
        call_command("createcachetable", verbosity=0)
        return
    role = connection.settings_dict["USER"]
    if unreadable := _unreadable():
        raise CommandError(
            f"the role {role} may not use {', '.join(unreadable)}: run deploy/postgresql.sql again (deploy/README.md)."
        )
    if missing := _missing():
        raise CommandError(
            f"the database lacks {', '.join(missing)}, and the role {role} may not make tables: run "
            "`manage.py migrate` and `manage.py createcachetable` with the owner's DATABASE_URL, then "
            "deploy/postgresql.sql (deploy/README.md)."
        )


def _may_make_tables() -> bool:
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT has_schema_privilege(current_schema(), 'CREATE')")
        return bool(cursor.fetchone() == (True,))


def _unreadable() -> list[str]:
    """Tables that this role was not let into: made after its privileges were granted."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() "
            "AND NOT has_table_privilege(format('%I.%I', schemaname, tablename), 'SELECT') ORDER BY 1"
        )
        return [name for (name,) in cursor.fetchall()]


def _missing() -> list[str]:
    """Migrations that were not applied, and the cache's table."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    cache = settings.CACHES["default"]["LOCATION"]
    tables = [] if cache in connection.introspection.table_names() else [f"table {cache}"]
    return [*(f"migration {migration}" for migration, _backwards in plan), *tables]
