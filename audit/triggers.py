"""The trail is append-only in the database too; what may be deleted was archived, granted, and is not on hold.

SQLite: ``INSERT OR REPLACE`` would go round the DELETE trigger, so an INSERT that meets an existing row is refused as
well. PostgreSQL: TRUNCATE has a trigger of its own.

A leaf is only written under its seal: one under no seal would keep its event from being sealed, and looked at.
"""

from compliance_bot.guardrails.database import Guards

# What makes a new row (NEW) meet an old one (o), by table.
_MEETS = {
    "audit_auditevent": "o.id = NEW.id OR o.event_id = NEW.event_id",
    "audit_auditleaf": "o.event_pk = NEW.event_pk OR (o.seal_n = NEW.seal_n AND o.position = NEW.position)",
    "audit_auditseal": "o.n = NEW.n",
    "audit_auditpurgegrant": "o.n = NEW.n OR o.archive = NEW.archive",
    "audit_auditpurge": "o.event_pk = NEW.event_pk",
    "audit_audithold": "o.id = NEW.id",
    "audit_auditpayload": "o.event_pk = NEW.event_pk",
}

# An event (e) that some hold keeps.
_HELD = """EXISTS (
  SELECT 1 FROM audit_audithold h WHERE h.released_at IS NULL
  AND (h.who = '' OR h.who = {e}.who_label OR h.who = {e}.on_behalf_of)
  AND (h.target_type = '' OR h.target_type = {e}.target_type)
  AND (h.target_id = '' OR h.target_id = {e}.target_id)
  AND (h.request_id IS NULL OR h.request_id = {e}.request_id)
  AND (h.starts_at IS NULL OR {e}.at >= h.starts_at)
  AND (h.ends_at IS NULL OR {e}.at < h.ends_at))"""

# Why an old row (OLD) must stay, by table.
_STAYS = {
    "audit_auditevent": f"""NOT EXISTS (
  SELECT 1 FROM audit_auditpurge p JOIN audit_auditpurgegrant g ON g.n = p.grant_n
  JOIN audit_auditleaf l ON l.event_pk = p.event_pk
  WHERE p.event_pk = OLD.id AND OLD.at < g.before AND l.row_hash = OLD.row_hash)
  OR {_HELD.format(e="OLD")}""",  # noqa: S608 - our own names
    "audit_auditpayload": f"""EXISTS (
  SELECT 1 FROM audit_auditevent e WHERE e.id = OLD.event_pk AND {_HELD.format(e="e")})""",  # noqa: S608
}

# A hold's release is written once; everything else about it never changes.
_HOLD_FIXED = (
    *("id", "who", "target_type", "target_id", "request_id", "starts_at", "ends_at"),
    *("reason", "owner", "placed_by", "placed_at"),
)

_DIFFERENT = {"sqlite": "IS NOT", "postgresql": "IS DISTINCT FROM"}


def _changed(table: str, vendor: str) -> str:
    """When an UPDATE of ``table`` is refused."""
    if table != "audit_audithold":
        return "1 = 1"
    fixed = " OR ".join(f"NEW.{column} {_DIFFERENT[vendor]} OLD.{column}" for column in _HOLD_FIXED)
    return f"OLD.released_at IS NOT NULL OR {fixed}"


_SQLITE = """
CREATE TRIGGER {table}_not_replaced BEFORE INSERT ON {table}
WHEN EXISTS (SELECT 1 FROM {table} o WHERE {meets})
BEGIN SELECT RAISE(ABORT, 'the audit trail is never replaced'); END;

CREATE TRIGGER {table}_unchanged BEFORE UPDATE ON {table}
WHEN {changed}
BEGIN SELECT RAISE(ABORT, 'the audit trail is never changed'); END;

CREATE TRIGGER {table}_kept BEFORE DELETE ON {table}
WHEN {stays}
BEGIN SELECT RAISE(ABORT, 'nothing is removed from the audit trail'); END;
"""

_POSTGRESQL = """
CREATE FUNCTION {table}_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF {stays} THEN
    RAISE EXCEPTION 'nothing is removed from the audit trail' USING ERRCODE = 'check_violation';
  END IF;
  RETURN OLD;
END $$;
CREATE FUNCTION {table}_unchanged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF {changed} THEN
    RAISE EXCEPTION 'the audit trail is never changed' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE FUNCTION {table}_not_replaced() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION 'the audit trail is never emptied' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER {table}_not_replaced BEFORE TRUNCATE ON {table}
  FOR EACH STATEMENT EXECUTE FUNCTION {table}_not_replaced();
CREATE TRIGGER {table}_unchanged BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_unchanged();
CREATE TRIGGER {table}_kept BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_kept();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_not_replaced;
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_unchanged;
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_kept;
"""


def _for_each_table(script: str, vendor: str) -> str:
    return "\n".join(
        script.format(table=table, meets=meets, changed=_changed(table, vendor), stays=_STAYS.get(table, "1 = 1"))
        for table, meets in _MEETS.items()
    )


_SQLITE_LEAF = """
CREATE TRIGGER audit_auditleaf_under_seal BEFORE INSERT ON audit_auditleaf
WHEN NOT EXISTS (SELECT 1 FROM audit_auditseal s WHERE s.n = NEW.seal_n AND NEW.position < s.size)
BEGIN SELECT RAISE(ABORT, 'a leaf of the audit trail has its place under a seal'); END;
"""

# Once a statement: a seal's thousand leaves are one.
_POSTGRESQL_LEAF = """
CREATE FUNCTION audit_auditleaf_under_seal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF EXISTS (SELECT 1 FROM fresh LEFT JOIN audit_auditseal s ON s.n = fresh.seal_n AND fresh.position < s.size
             WHERE s.n IS NULL) THEN
    RAISE EXCEPTION 'a leaf of the audit trail has its place under a seal' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER audit_auditleaf_under_seal AFTER INSERT ON audit_auditleaf
  REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION audit_auditleaf_under_seal();
ALTER TABLE audit_auditleaf ENABLE ALWAYS TRIGGER audit_auditleaf_under_seal;
"""

_RULES = ("not_replaced", "unchanged", "kept")

GUARDS = Guards(
    tables={f"{table}_{rule}": table for table in _MEETS for rule in _RULES}
    | {"audit_auditleaf_under_seal": "audit_auditleaf"},
    sqlite=_for_each_table(_SQLITE, "sqlite") + _SQLITE_LEAF,
    postgresql=_for_each_table(_POSTGRESQL, "postgresql") + _POSTGRESQL_LEAF,
)
