"""Rules that hold even against whoever bypasses the services: four eyes, in the database itself.

Neither the requester nor the author of a request can be its decider; a decision is never changed or removed; and a
request is approved only with its quorum of approvals, and closed for good. SQLite drops triggers when Django rebuilds a
table, so they are installed again after every migration and their presence is checked at start.
"""

from compliance_bot.guardrails.database import Guards

_TABLE_OF = {
    "approval_starts_pending": "workflows_approvalrequest",
    "approval_four_eyes": "workflows_approvaldecision",
    "approval_decision_kept": "workflows_approvaldecision",
    "approval_decision_unchanged": "workflows_approvaldecision",
    "approval_has_quorum": "workflows_approvalrequest",
}

_SQLITE = """
CREATE TRIGGER approval_starts_pending BEFORE INSERT ON workflows_approvalrequest
WHEN NEW.state <> 'pending' OR EXISTS (SELECT 1 FROM workflows_approvalrequest r WHERE r.id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'a request starts as pending'); END;

CREATE TRIGGER approval_four_eyes BEFORE INSERT ON workflows_approvaldecision
WHEN EXISTS (SELECT 1 FROM workflows_approvalrequest r WHERE r.id = NEW.request_id
             AND NEW.decided_by_id IN (r.requested_by_id, r.authored_by_id))
  OR EXISTS (SELECT 1 FROM workflows_approvaldecision d WHERE d.id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'four eyes: whoever requested or wrote it cannot decide'); END;

CREATE TRIGGER approval_decision_kept BEFORE DELETE ON workflows_approvaldecision
BEGIN SELECT RAISE(ABORT, 'a decision is never removed'); END;

CREATE TRIGGER approval_decision_unchanged BEFORE UPDATE ON workflows_approvaldecision
BEGIN SELECT RAISE(ABORT, 'a decision is never changed'); END;

CREATE TRIGGER approval_has_quorum BEFORE UPDATE ON workflows_approvalrequest
WHEN (NEW.state IN ('approved', 'executed') AND NEW.state <> OLD.state AND NEW.quorum >
      (SELECT count(*) FROM workflows_approvaldecision d WHERE d.request_id = NEW.id AND d.verdict = 'approve'))
  OR NEW.requested_by_id <> OLD.requested_by_id OR NEW.authored_by_id <> OLD.authored_by_id
  OR NEW.content_digest <> OLD.content_digest OR NEW.quorum < OLD.quorum OR NEW.subject_id <> OLD.subject_id
  OR NEW.expires_at > OLD.expires_at
  OR (OLD.state NOT IN ('pending', 'approved') AND NEW.state <> OLD.state)
BEGIN SELECT RAISE(ABORT, 'an approval needs its quorum; what was asked for, and what was decided, stays'); END;
"""

_POSTGRESQL = """
CREATE FUNCTION approval_starts_pending() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.state <> 'pending' THEN
    RAISE EXCEPTION 'a request starts as pending' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER approval_starts_pending BEFORE INSERT ON workflows_approvalrequest
FOR EACH ROW EXECUTE FUNCTION approval_starts_pending();
ALTER TABLE workflows_approvalrequest ENABLE ALWAYS TRIGGER approval_starts_pending;

CREATE FUNCTION approval_four_eyes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF EXISTS (SELECT 1 FROM workflows_approvalrequest r WHERE r.id = NEW.request_id
             AND NEW.decided_by_id IN (r.requested_by_id, r.authored_by_id)) THEN
    RAISE EXCEPTION 'four eyes: whoever requested or wrote it cannot decide' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER approval_four_eyes BEFORE INSERT ON workflows_approvaldecision
FOR EACH ROW EXECUTE FUNCTION approval_four_eyes();
ALTER TABLE workflows_approvaldecision ENABLE ALWAYS TRIGGER approval_four_eyes;

CREATE FUNCTION approval_decision_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION 'a decision is never changed or removed' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER approval_decision_kept BEFORE DELETE ON workflows_approvaldecision
FOR EACH ROW EXECUTE FUNCTION approval_decision_kept();
ALTER TABLE workflows_approvaldecision ENABLE ALWAYS TRIGGER approval_decision_kept;
CREATE TRIGGER approval_decision_unchanged BEFORE UPDATE ON workflows_approvaldecision
FOR EACH ROW EXECUTE FUNCTION approval_decision_kept();
ALTER TABLE workflows_approvaldecision ENABLE ALWAYS TRIGGER approval_decision_unchanged;

CREATE FUNCTION approval_has_quorum() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF (NEW.state IN ('approved', 'executed') AND NEW.state <> OLD.state AND NEW.quorum >
      (SELECT count(*) FROM workflows_approvaldecision d WHERE d.request_id = NEW.id AND d.verdict = 'approve'))
    OR NEW.requested_by_id <> OLD.requested_by_id OR NEW.authored_by_id <> OLD.authored_by_id
    OR NEW.content_digest <> OLD.content_digest OR NEW.quorum < OLD.quorum OR NEW.subject_id <> OLD.subject_id
  OR NEW.expires_at > OLD.expires_at
    OR (OLD.state NOT IN ('pending', 'approved') AND NEW.state <> OLD.state) THEN
    RAISE EXCEPTION 'an approval needs its quorum; what was asked for, and what was decided, stays'
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER approval_has_quorum BEFORE UPDATE ON workflows_approvalrequest
FOR EACH ROW EXECUTE FUNCTION approval_has_quorum();
ALTER TABLE workflows_approvalrequest ENABLE ALWAYS TRIGGER approval_has_quorum;
"""

GUARDS = Guards(tables=_TABLE_OF, sqlite=_SQLITE, postgresql=_POSTGRESQL)
