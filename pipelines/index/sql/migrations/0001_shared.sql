-- What all indexes share. Content lives in one schema per index (0001_index.sql).

CREATE TABLE snapdex.index (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    language regconfig NOT NULL,                -- stems and stop words of lexical search; fixed, or versions would drift
    average_terms int NOT NULL,                 -- the document length that BM25 calls average; fixed for the same reason
    epoch bigint NOT NULL DEFAULT 0,            -- grows with every move of the pointer: what compare-and-set compares
    last_version int NOT NULL DEFAULT 0,        -- high-water mark: a number is never used twice
    active_version int,                         -- the pointer
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE snapdex.index IS 'One row per index. Its row lock (FOR NO KEY UPDATE) is the one lock of publish, rollback, seal, forget and prune.';

CREATE TABLE snapdex.embedding_space (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fingerprint text NOT NULL UNIQUE,
    model text NOT NULL,
    revision text NOT NULL,
    dimension int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE snapdex.version (
    index_id int NOT NULL REFERENCES snapdex.index ON DELETE CASCADE,
    number int NOT NULL,
    snapshot text NOT NULL,
    parent int,
    recipe text NOT NULL,
    space_id int NOT NULL REFERENCES snapdex.embedding_space,
    documents bigint NOT NULL,
    chunks bigint NOT NULL,                     -- distinct ones
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    report jsonb NOT NULL DEFAULT '{}',         -- what the run that built it counted
    metrics jsonb,
    git_commit text,
    dvc_md5 text,
    prefect_run text,
    mlflow_run text,
    PRIMARY KEY (index_id, number)
);
COMMENT ON TABLE snapdex.version IS 'Sealed, immutable: only metrics and the ids that lead elsewhere are filled in later.';
CREATE INDEX version_snapshot ON snapdex.version (index_id, snapshot text_pattern_ops);

ALTER TABLE snapdex.index ADD FOREIGN KEY (id, active_version) REFERENCES snapdex.version (index_id, number);

CREATE TABLE snapdex.operation (
    id uuid PRIMARY KEY,                        -- chosen by the client, so that it can ask what became of it
    index_id int NOT NULL REFERENCES snapdex.index ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('publish', 'rollback')),
    version int NOT NULL,
    previous int,
    epoch bigint NOT NULL,
    actor text NOT NULL,
    reason text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (index_id, epoch)
);
COMMENT ON TABLE snapdex.operation IS 'Every move of a pointer, for ever; rows are only added.';

CREATE TABLE snapdex.tag (
    index_id int NOT NULL,
    name text COLLATE "C" NOT NULL,
    version int NOT NULL,
    PRIMARY KEY (index_id, name),
    FOREIGN KEY (index_id, version) REFERENCES snapdex.version ON DELETE CASCADE
);
