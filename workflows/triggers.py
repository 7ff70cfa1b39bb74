"""Rules that hold even against whoever bypasses the services: four eyes, in the database itself.

Neither the requester, the author, nor whom a request is about can be its decider; a decision is never changed or
removed, nor is a request; a request is only carried out with its quorum of approvals - or by a person who broke the
glass, which stays written - and what was asked for never changes. SQLite drops triggers when Django rebuilds a table,
so they are installed again after every migration and their presence is checked at start.
"""

from compliance_bot.guardrails.database import Guards

_REQUESTS, _DECISIONS = "workflows_approvalrequest", "workflows_approvaldecision"

_TABLE_OF = {
    "approval_starts_pending": _REQUESTS,
    "approval_has_quorum": _REQUESTS,
    "approval_kept": _REQUESTS,
    "approval_four_eyes": _DECISIONS,
    "approval_decision_kept": _DECISIONS,
    "approval_decision_unchanged": _DECISIONS,
}

# What was asked for, and the rule it was asked under.
_FIXED = (
    *("action", "subject_type", "subject_id", "content_digest", "preview", "payload", "size"),
    *("requested_by_id", "authored_by_id", "reason", "requested_at", "request_id", "previous_id"),
    *("eligible_group", "barred", "reason_to_approve", "delay_minutes", "business_hours_only"),
)
# Written once; by column, what stands there before.
_ONCE = {
    "break_glass_by_id": "NULL",
    "break_glass_reason": "''",
    "reviewed_by_id": "NULL",
    "reviewed_at": "NULL",
    "review": "''",
}
_BEGUN = "('approved', 'executing', 'executed', 'partly', 'failed')"
_OPEN = "('pending', 'approved', 'executing')"


def _refused(different: str) -> str:
    """When an UPDATE of a request is refused. ``different``: the operator that compares with NULL, too."""
    fixed = [f"NEW.{column} {different} OLD.{column}" for column in _FIXED]
    once = [
        f"(OLD.{column} {different} {empty} AND NEW.{column} {different} OLD.{column})"
        for column, empty in _ONCE.items()
    ]
    return f"""(NEW.state <> OLD.state AND NEW.state IN {_BEGUN} AND NEW.break_glass_by_id IS NULL AND NEW.quorum >
      (SELECT count(*) FROM workflows_approvaldecision d WHERE d.request_id = NEW.id AND d.verdict = 'approve'))
    OR NEW.quorum < OLD.quorum OR NEW.expires_at > OLD.expires_at
    OR (NEW.state <> OLD.state AND OLD.state NOT IN {_OPEN})
    OR {" OR ".join([*fixed, *once])}"""  # noqa: S608 - our own names


_SQLITE = f"""
CREATE TRIGGER approval_starts_pending BEFORE INSERT ON workflows_approvalrequest
WHEN NEW.state <> 'pending' OR EXISTS (SELECT 1 FROM workflows_approvalrequest r WHERE r.id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'a request starts as pending'); END;

CREATE TRIGGER approval_four_eyes BEFORE INSERT ON workflows_approvaldecision
WHEN EXISTS (SELECT 1 FROM workflows_approvalrequest r WHERE r.id = NEW.request_id
             AND (NEW.decided_by_id IN (r.requested_by_id, r.authored_by_id)
                  OR EXISTS (SELECT 1 FROM json_each(r.barred) b WHERE b.value = NEW.decided_by_id)))
  OR EXISTS (SELECT 1 FROM workflows_approvaldecision d WHERE d.id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'four eyes: whoever requested or wrote it, or whom it is about, cannot decide'); END;

CREATE TRIGGER approval_decision_kept BEFORE DELETE ON workflows_approvaldecision
BEGIN SELECT RAISE(ABORT, 'a decision is never removed'); END;

CREATE TRIGGER approval_decision_unchanged BEFORE UPDATE ON workflows_approvaldecision
BEGIN SELECT RAISE(ABORT, 'a decision is never changed'); END;

CREATE TRIGGER approval_kept BEFORE DELETE ON workflows_approvalrequest
BEGIN SELECT RAISE(ABORT, 'a request is never removed'); END;

CREATE TRIGGER approval_has_quorum BEFORE UPDATE ON workflows_approvalrequest
WHEN {_refused("IS NOT")}
BEGIN SELECT RAISE(ABORT, 'an approval needs its quorum; what was asked for, and what was decided, stays'); END;
"""  # noqa: S608 - our own names


def _postgresql(name: str, when: str, table: str, condition: str, message: str) -> str:
    """A trigger that refuses, with the function of its name."""
    return f"""
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF {condition} THEN
    RAISE EXCEPTION '{message}' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER {name} BEFORE {when} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name};
"""


_POSTGRESQL = (
    _postgresql("approval_starts_pending", "INSERT", _REQUESTS, "NEW.state <> 'pending'", "a request starts as pending")
    + _postgresql(
        "approval_four_eyes",
        "INSERT",
        _DECISIONS,
        """EXISTS (SELECT 1 FROM workflows_approvalrequest r WHERE r.id = NEW.request_id
             AND (NEW.decided_by_id IN (r.requested_by_id, r.authored_by_id)
                  OR r.barred @> to_jsonb(NEW.decided_by_id)))""",
        "four eyes: whoever requested or wrote it, or whom it is about, cannot decide",
    )
    + _postgresql("approval_decision_kept", "DELETE", _DECISIONS, "true", "a decision is never removed")
    + _postgresql("approval_decision_unchanged", "UPDATE", _DECISIONS, "true", "a decision is never changed")
    + _postgresql("approval_kept", "DELETE", _REQUESTS, "true", "a request is never removed")
    + _postgresql(
        "approval_has_quorum",
        "UPDATE",
        _REQUESTS,
        _refused("IS DISTINCT FROM"),
        "an approval needs its quorum; what was asked for, and what was decided, stays",
    )
)

GUARDS = Guards(tables=_TABLE_OF, sqlite=_SQLITE, postgresql=_POSTGRESQL)
