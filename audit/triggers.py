"""The trail is append-only in the database too: events, leaves and seals.

SQLite: ``INSERT OR REPLACE`` would go round the DELETE trigger, so an INSERT that meets an existing row is refused as
well. PostgreSQL: TRUNCATE has a trigger of its own.
"""

from compliance_bot.guardrails.database import Guards

# What makes a new row (NEW) meet an old one (o), by table.
_MEETS = {
    "audit_auditevent": "o.id = NEW.id OR o.event_id = NEW.event_id",
    "audit_auditleaf": "o.event_pk = NEW.event_pk OR (o.seal_n = NEW.seal_n AND o.position = NEW.position)",
    "audit_auditseal": "o.n = NEW.n",
}

_SQLITE = """
CREATE TRIGGER {table}_not_replaced BEFORE INSERT ON {table}
WHEN EXISTS (SELECT 1 FROM {table} o WHERE {meets})
BEGIN SELECT RAISE(ABORT, 'the audit trail is never replaced'); END;

CREATE TRIGGER {table}_unchanged BEFORE UPDATE ON {table}
BEGIN SELECT RAISE(ABORT, 'the audit trail is never changed'); END;

CREATE TRIGGER {table}_kept BEFORE DELETE ON {table}
BEGIN SELECT RAISE(ABORT, 'nothing is removed from the audit trail'); END;
"""

_POSTGRESQL = """
CREATE FUNCTION {table}_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION 'the audit trail is never changed, replaced or removed from' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER {table}_not_replaced BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {table}_kept();
CREATE TRIGGER {table}_unchanged BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_kept();
CREATE TRIGGER {table}_kept BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_kept();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_not_replaced;
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_unchanged;
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_kept;
"""


def _for_each_table(script: str) -> str:
    return "\n".join(script.format(table=table, meets=meets) for table, meets in _MEETS.items())


GUARDS = Guards(
    tables={f"{table}_{rule}": table for table in _MEETS for rule in ("not_replaced", "unchanged", "kept")},
    sqlite=_for_each_table(_SQLITE),
    postgresql=_for_each_table(_POSTGRESQL),
)
