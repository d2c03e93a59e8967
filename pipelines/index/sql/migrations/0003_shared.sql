-- What readers asked for, as far as the section `log` of params.yaml lets them say.

CREATE TABLE snapdex.retrieval_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    index_id int NOT NULL REFERENCES snapdex.index ON DELETE CASCADE,
    version int NOT NULL,                       -- also one that is forgotten since
    mode text NOT NULL,
    k int NOT NULL,
    hits int NOT NULL,
    abstained boolean NOT NULL,
    seconds float8 NOT NULL,                    -- in the database; embedding the query is not in it
    share float8 NOT NULL CHECK (share > 0 AND share <= 1),  -- of all searches, that were logged then
    query text,                                 -- its text or its SHA-256; null: neither is kept
    documents text[] NOT NULL                   -- of the hits, each once, best first
);
COMMENT ON TABLE snapdex.retrieval_log IS 'A sample of searches. Written through snapdex.log_retrieval alone, and kept for log.keep_days.';
CREATE INDEX retrieval_log_at ON snapdex.retrieval_log (index_id, at);

-- What was learned about a version, and what its gate decided.
ALTER TABLE snapdex.version ADD COLUMN calibration jsonb, ADD COLUMN gate jsonb;
COMMENT ON COLUMN snapdex.version.calibration IS 'How to search it: learned on a golden set before it was published.';
COMMENT ON COLUMN snapdex.version.gate IS 'The decision of the gate, if it was compared with the version that was active.';
