-- Two roles: OWNER owns the tables and migrates, APP is what the product runs as. APP cannot change or remove what was
-- recorded, cannot lift the triggers, and cannot make tables of its own.
--
-- Run it as the server's superuser in the product's database, once before the first migration and after each one:
--
--     sudo -u postgres psql -d compliance -v owner=compliance_owner -v app=compliance_app < deploy/postgresql.sql
--
-- It can be repeated at any time, also while the product runs: the grants change in one transaction.

\set ON_ERROR_STOP on
\set QUIET on
BEGIN;

SELECT format('CREATE ROLE %I LOGIN', name) FROM (VALUES (:'owner'), (:'app')) wanted (name)
WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = name) \gexec

-- A role with such powers goes round everything below.
SELECT set_config('roles.owner', :'owner', true), set_config('roles.app', :'app', true) \g /dev/null
DO $$ BEGIN
  IF EXISTS (
    SELECT 1 FROM pg_roles WHERE rolname = current_setting('roles.app')
    AND (rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls OR pg_has_role(oid, current_setting('roles.owner'), 'MEMBER'))
  ) THEN
    RAISE EXCEPTION 'the role % has powers that it must not have: SUPERUSER, CREATEROLE, REPLICATION, BYPASSRLS or %',
      current_setting('roles.app'), current_setting('roles.owner');
  END IF;
  IF EXISTS (
    SELECT relowner FROM pg_class WHERE relnamespace = 'public'::regnamespace
      AND relowner = current_setting('roles.app')::regrole
    UNION SELECT proowner FROM pg_proc WHERE proowner = current_setting('roles.app')::regrole
    UNION SELECT datdba FROM pg_database WHERE datname = current_database()
      AND datdba = current_setting('roles.app')::regrole
  ) THEN
    RAISE EXCEPTION 'the role % owns the database, or tables or functions in it; first: REASSIGN OWNED BY % TO %',
      current_setting('roles.app'), current_setting('roles.app'), current_setting('roles.owner');
  END IF;
END $$;

-- TEMPORARY too: a temporary table would stand before the real one when a trigger looks for leaves, grants and holds.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC, %I', current_database(), :'app') \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), :'app') \gexec
SELECT format('GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %I TO %I', current_database(), :'owner') \gexec
REVOKE ALL ON SCHEMA public FROM PUBLIC, :"app";
GRANT USAGE ON SCHEMA public TO :"app";
GRANT USAGE, CREATE ON SCHEMA public TO :"owner";

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, :"app";
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC, :"app";
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO :"app";

-- What is not named here is the product's to write as it needs. No table: no TRUNCATE, REFERENCES or TRIGGER.
SELECT format('GRANT %s ON public.%I TO %I', coalesce(privileges, 'SELECT, INSERT, UPDATE, DELETE'), tablename, :'app')
FROM pg_tables LEFT JOIN (VALUES
  -- Deleting an event is for the trigger to allow: archived, granted, on no hold.
  ('audit_auditevent', 'SELECT, INSERT, DELETE'),
  ('audit_auditleaf', 'SELECT, INSERT'),
  ('audit_auditseal', 'SELECT, INSERT'),
  ('audit_auditpurgegrant', 'SELECT, INSERT'),
  ('audit_auditpurge', 'SELECT, INSERT'),
  ('audit_audithold', 'SELECT, INSERT, UPDATE'),
  ('audit_auditpayload', 'SELECT, INSERT, DELETE'),
  ('audit_search_v1', 'SELECT, INSERT, DELETE'),
  ('workflows_approvalrequest', 'SELECT, INSERT, UPDATE'),
  ('workflows_approvaldecision', 'SELECT, INSERT'),
  ('auditlog_logentry', 'SELECT, INSERT, UPDATE'),
  ('django_migrations', 'SELECT')
) kept (name, privileges) ON name = tablename
WHERE schemaname = 'public' \gexec

COMMIT;
