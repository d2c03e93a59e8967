-- Promises to keep a version, erased documents, and what maintenance did.

CREATE TABLE snapdex.pin (
    index_id int NOT NULL,
    version int NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (index_id, version),
    FOREIGN KEY (index_id, version) REFERENCES snapdex.version ON DELETE RESTRICT
);
COMMENT ON TABLE snapdex.pin IS 'A pinned version is never forgotten.';

CREATE TABLE snapdex.erasure (
    index_id int NOT NULL REFERENCES snapdex.index ON DELETE CASCADE,
    document_sha256 text NOT NULL,              -- of the URI: the name of an erased document may not stay either
    leaf bytea NOT NULL,                        -- what the document was in a snapshot, so that ids can still be checked
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    PRIMARY KEY (index_id, document_sha256, leaf)
);
COMMENT ON TABLE snapdex.erasure IS 'What erasing removed from sealed versions: the one exception to their immutability.';

CREATE TABLE snapdex.maintenance (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    index_id int NOT NULL REFERENCES snapdex.index ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('forget', 'prune', 'erase', 'restore')),
    detail jsonb NOT NULL,
    actor text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE snapdex.maintenance IS 'What forget, prune, erase and restore did, for ever; rows are only added.';
