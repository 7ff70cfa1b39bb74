"""The trail is append-only in the database too.

SQLite: ``INSERT OR REPLACE`` would go round the DELETE trigger, so an INSERT that meets an existing row is refused as
well. PostgreSQL: TRUNCATE has a trigger of its own.
"""

from compliance_bot.guardrails.database import Guards

_TABLE = "audit_auditevent"

_SQLITE = """
CREATE TRIGGER audit_event_not_replaced BEFORE INSERT ON audit_auditevent
WHEN EXISTS (SELECT 1 FROM audit_auditevent e WHERE e.id = NEW.id OR e.event_id = NEW.event_id)
BEGIN SELECT RAISE(ABORT, 'an audit event is never replaced'); END;

CREATE TRIGGER audit_event_unchanged BEFORE UPDATE ON audit_auditevent
BEGIN SELECT RAISE(ABORT, 'an audit event is never changed'); END;

CREATE TRIGGER audit_event_kept BEFORE DELETE ON audit_auditevent
BEGIN SELECT RAISE(ABORT, 'an audit event is never removed'); END;
"""

_POSTGRESQL = """
CREATE FUNCTION audit_event_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION 'an audit event is never changed, replaced or removed' USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER audit_event_not_replaced BEFORE TRUNCATE ON audit_auditevent
FOR EACH STATEMENT EXECUTE FUNCTION audit_event_kept();
ALTER TABLE audit_auditevent ENABLE ALWAYS TRIGGER audit_event_not_replaced;

CREATE TRIGGER audit_event_unchanged BEFORE UPDATE ON audit_auditevent
FOR EACH ROW EXECUTE FUNCTION audit_event_kept();
ALTER TABLE audit_auditevent ENABLE ALWAYS TRIGGER audit_event_unchanged;

CREATE TRIGGER audit_event_kept BEFORE DELETE ON audit_auditevent
FOR EACH ROW EXECUTE FUNCTION audit_event_kept();
ALTER TABLE audit_auditevent ENABLE ALWAYS TRIGGER audit_event_kept;
"""

GUARDS = Guards(
    tables=dict.fromkeys(("audit_event_not_replaced", "audit_event_unchanged", "audit_event_kept"), _TABLE),
    sqlite=_SQLITE,
    postgresql=_POSTGRESQL,
)
