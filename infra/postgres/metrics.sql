-- What a dashboard needs and no document text: functions for the login snapdex_monitor, which may do nothing else.
-- As superuser, after databases.sql; again after a change of this file. They are cheap: a row per index, version or move,
-- and sizes that Postgres keeps anyway. Bodies of plpgsql bind to tables when they run, so that they stand in the way of
-- no migration; before the first `snapdex run` they return nothing.

\set ON_ERROR_STOP on
\connect snapdex
SET ROLE snapdex;
CREATE SCHEMA IF NOT EXISTS snapdex_metrics;

CREATE OR REPLACE FUNCTION snapdex_metrics.versions()
RETURNS TABLE (index text, version int, snapshot text, created_at timestamptz, active boolean, documents bigint,
               chunks bigint, model text, metrics jsonb, git_commit text, prefect_run text, mlflow_run text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF to_regclass('snapdex.versions') IS NOT NULL THEN
        RETURN QUERY SELECT v.index, v.version, v.snapshot, v.created_at, coalesce(v.active, false), v.documents, v.chunks,
            v.model, v.metrics, v.git_commit, v.prefect_run, v.mlflow_run FROM snapdex.versions v;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION snapdex_metrics.moves()
RETURNS TABLE (index text, at timestamptz, kind text, version int, previous int, actor text, reason text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF to_regclass('snapdex.operation') IS NOT NULL THEN
        RETURN QUERY SELECT i.name, o.at, o.kind, o.version, o.previous, o.actor, o.reason
            FROM snapdex.operation o JOIN snapdex.index i ON i.id = o.index_id;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION snapdex_metrics.maintenance()
RETURNS TABLE (index text, at timestamptz, kind text, actor text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN  -- without the detail, which may name what an erasure was about
    IF to_regclass('snapdex.maintenance') IS NOT NULL THEN
        RETURN QUERY SELECT i.name, m.at, m.kind, m.actor
            FROM snapdex.maintenance m JOIN snapdex.index i ON i.id = m.index_id;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION snapdex_metrics.quarantine()
RETURNS TABLE (index text, document text, reason text, first_seen timestamptz, attempts int)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    name text;
    content text;
BEGIN  -- without the detail, which may quote the document
    IF to_regclass('snapdex.index') IS NOT NULL THEN
        FOR name, content IN SELECT i.name, snapdex._schema(i.id) FROM snapdex.index i LOOP
            RETURN QUERY EXECUTE format('SELECT $1, document, reason, first_seen, attempts FROM %I.quarantine', content)
                USING name;
        END LOOP;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION snapdex_metrics.indexes()
RETURNS TABLE (index text, active_version int, newest_version int, created_at timestamptz, moved_at timestamptz,
               rolled_back boolean, documents bigint, chunks bigint, quarantined bigint, bytes bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN  -- created_at: of the newest version; moved_at: when the pointer moved last
    IF to_regclass('snapdex.index') IS NOT NULL THEN
        RETURN QUERY SELECT i.name, i.active_version, n.number, n.created_at, o.at, coalesce(o.kind = 'rollback', false),
            a.documents, a.chunks, (SELECT count(*) FROM snapdex_metrics.quarantine() q WHERE q.index = i.name),
            (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
             WHERE c.relkind = 'r' AND c.relnamespace = to_regnamespace(snapdex._schema(i.id)))
        FROM snapdex.index i
        LEFT JOIN snapdex.version a ON (a.index_id, a.number) = (i.id, i.active_version)
        LEFT JOIN snapdex.operation o ON (o.index_id, o.epoch) = (i.id, i.epoch)
        LEFT JOIN LATERAL (SELECT v.number, v.created_at FROM snapdex.version v WHERE v.index_id = i.id
                           ORDER BY v.number DESC LIMIT 1) n ON true;
    END IF;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA snapdex_metrics FROM PUBLIC;
GRANT USAGE ON SCHEMA snapdex_metrics TO snapdex_monitor;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA snapdex_metrics TO snapdex_monitor;
RESET ROLE;
