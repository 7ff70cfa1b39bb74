"""The inverted index is the database's own kind of table; Django has no model for it."""

from django.db import migrations

from audit import search_index


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]

    operations = [
        migrations.RunPython(
            lambda apps, schema_editor: search_index.create(schema_editor.connection),
            lambda apps, schema_editor: search_index.drop(schema_editor.connection),
        ),
    ]
