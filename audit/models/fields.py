"""Columns that are read a million at a time."""

import uuid
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class TextUUIDField(models.UUIDField):  # type: ignore[type-arg]
    """Stored as people read it where the database knows no UUIDs: Django leaves out the hyphens there.

    To put them in again was half the cost of an export from SQLite.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        return super().db_type(connection) if connection.features.has_native_uuid_field else "char(36)"

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, *args: Any, **kwargs: Any) -> Any:
        given = self.to_python(value)
        if connection.features.has_native_uuid_field:
            return given
        return str(given) if isinstance(given, uuid.UUID) else given
