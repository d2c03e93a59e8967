-- The content of one index; run with search_path on its schema. Rows are keyed by what they are and only ever inserted;
-- membership alone says which of them a version consists of. There are no foreign keys on the bulk tables: sealing
-- checks completeness for the whole version instead, which is cheaper and also covers rows that prune took away.

CREATE TABLE revision (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bytea NOT NULL UNIQUE,                  -- of content hash, media type and recipe
    content_sha256 bytea NOT NULL,
    media_type text NOT NULL,
    chunks_sha256 bytea NOT NULL,
    title text,
    metadata jsonb NOT NULL,
    chunks int NOT NULL
);
CREATE INDEX revision_metadata ON revision USING gin (metadata jsonb_path_ops);

CREATE TABLE chunk (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bytea NOT NULL UNIQUE,                  -- of context and text
    context text NOT NULL,
    text text NOT NULL,
    tokens int NOT NULL
);
ALTER TABLE chunk ALTER COLUMN text SET STATISTICS 0;   -- samples in pg_stats would outlive an erasure

CREATE TABLE occurrence (
    revision_id bigint NOT NULL,
    ordinal int NOT NULL,
    chunk_id bigint NOT NULL,
    section text[] NOT NULL,
    page int,
    start_at int NOT NULL,
    end_at int NOT NULL,
    parent_start int NOT NULL,
    parent_end int NOT NULL,
    PRIMARY KEY (revision_id, ordinal)
);
CREATE INDEX occurrence_chunk ON occurrence (chunk_id, revision_id);

CREATE TABLE lexical (
    chunk_id bigint PRIMARY KEY,
    terms int[] NOT NULL,
    weights sparsevec NOT NULL                  -- saturated and length-normalised: BM25 without its idf
);
CREATE INDEX lexical_terms ON lexical USING gin (terms);

CREATE TABLE document_frequency (
    term int NOT NULL,
    version int NOT NULL,
    delta int NOT NULL,                         -- chunks that hold the term: version against the one numbered before
    PRIMARY KEY (term, version)
);

CREATE TABLE membership (
    document text COLLATE "C" NOT NULL,
    from_version int NOT NULL,
    to_version int NOT NULL DEFAULT 2147483647, -- exclusive; the default says: still open
    revision_id bigint NOT NULL,
    leaf bytea NOT NULL,
    PRIMARY KEY (document, from_version)
);
CREATE UNIQUE INDEX membership_open ON membership (document) WHERE to_version = 2147483647;
CREATE INDEX membership_revision ON membership (revision_id, from_version, to_version);

CREATE TABLE quarantine (
    document text COLLATE "C" PRIMARY KEY,
    content_sha256 text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now(),
    attempts int NOT NULL DEFAULT 1
);
