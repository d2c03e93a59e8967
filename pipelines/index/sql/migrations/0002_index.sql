-- An erased document keeps its place in the versions that held it as the row `erased:<hash of its URI>` with its leaf,
-- and revision 0: there is no such revision, so nothing can be found through it.
COMMENT ON COLUMN membership.revision_id IS '0: the document was erased';

-- Candidates of lexical search in the newest version are the chunks that it holds, not those of all versions.
ALTER TABLE lexical ADD COLUMN current boolean NOT NULL DEFAULT true;  -- false: not in the newest version
UPDATE lexical l SET current = false WHERE NOT EXISTS (
    SELECT FROM occurrence o JOIN membership m USING (revision_id)
    WHERE o.chunk_id = l.chunk_id AND m.to_version = 2147483647);
DROP INDEX lexical_terms;
CREATE INDEX lexical_terms ON lexical USING gin (terms) WHERE current;
CREATE INDEX lexical_past_terms ON lexical USING gin (terms) WHERE NOT current;

-- How many chunks of a version hold a term: said once, and again where it changes, so that a search reads one row a term.
ALTER TABLE document_frequency RENAME COLUMN delta TO chunks;
UPDATE document_frequency f SET chunks = s.chunks FROM (
    SELECT term, version, sum(chunks) OVER (PARTITION BY term ORDER BY version) AS chunks FROM document_frequency) s
    WHERE s.term = f.term AND s.version = f.version;
COMMENT ON COLUMN document_frequency.chunks IS 'that hold the term, from this version on, until the next row of the term';
