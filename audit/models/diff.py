"""Where django-auditlog hands in the differences that it finds."""

from typing import Any

from django.db import models


class FieldChanges(models.Manager["FieldChange"]):
    """Stands where django-auditlog keeps its log entries."""

    def log_create(self, instance: models.Model, *, action: int, changes: dict[str, Any], **options: Any) -> object:
        from audit.diffs import to_the_trail  # the recorder needs the models first

        return to_the_trail(instance, action, changes)


class FieldChange(models.Model):
    """Has no table: a second log beside the trail would be a second truth, and each save would pay for both."""

    class Action:
        CREATE, UPDATE, DELETE, ACCESS = range(4)

    objects = FieldChanges()

    class Meta:
        managed = False
