-- The functions and views, replaced as a whole whenever this file changes. {vector_schema} is where pgvector lives.
-- Reader functions run with their owner's rights, so that the role snapdex_reader needs no access to any table.

-- A function with other arguments or results than before cannot be replaced; nothing depends on these.
DROP FUNCTION IF EXISTS snapdex.retrieve;
DROP FUNCTION IF EXISTS snapdex._hits;
DROP FUNCTION IF EXISTS snapdex._hybrid;
DROP FUNCTION IF EXISTS snapdex._dense;
DROP FUNCTION IF EXISTS snapdex._lexical;
DROP FUNCTION IF EXISTS snapdex._abstains;
DROP FUNCTION IF EXISTS snapdex._coverable;

CREATE OR REPLACE FUNCTION snapdex.terms(config regconfig, source text)
RETURNS TABLE (term int, occurrences int) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    -- One tokeniser for chunks and queries. ASCII punctuation separates words, so that identifiers such as
    -- PREFECT_API_URL or ERR-4021 are found whole and in part. A term is its lexeme's hash: sparsevec has 10^9 dimensions.
    SELECT ((hashtextextended(lexeme, 0) & 9223372036854775807) % 1000000000)::int + 1, sum(cardinality(positions))::int
    FROM unnest(to_tsvector(config, translate(lower(source), $p$!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~$p$, repeat(' ', 32))))
    GROUP BY 1
$$;

CREATE OR REPLACE FUNCTION snapdex._schema(index_id int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT 'snapdex_' || index_id $$;

CREATE OR REPLACE FUNCTION snapdex._resolve(index_name text, at int) RETURNS snapdex.version LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    version snapdex.version;
BEGIN
    SELECT v.* INTO version FROM snapdex.index i JOIN snapdex.version v ON v.index_id = i.id
    WHERE i.name = index_name AND v.number = coalesce(at, i.active_version);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'index % has no % version', index_name, coalesce('such', 'active') USING ERRCODE = 'SX006';
    END IF;
    RETURN version;
END $$;

-- -- dense ------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION snapdex._matches(metadata jsonb, title text, media_type text, filter jsonb) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    -- Whether a revision has all that the filter asks for. Planned as part of the query, where the first condition alone
    -- reads few revisions (index revision_metadata); the second one takes ten times as long for each.
    SELECT metadata @> (filter - '{title,media_type}'::text[])
       AND (NOT filter ?| '{title,media_type}'
            OR (metadata || jsonb_strip_nulls(jsonb_build_object('title', title, 'media_type', media_type))) @> filter)
$$;

CREATE OR REPLACE FUNCTION snapdex._passes() RETURNS text LANGUAGE sql IMMUTABLE AS $$
    -- SQL text of the test that revision r is document m in version $1, and passes filter $2 and path pattern $3.
    SELECT 'm.from_version <= $1 AND m.to_version > $1 AND m.document LIKE $3
            AND snapdex._matches(r.metadata, r.title, r.media_type, $2)'
$$;

CREATE OR REPLACE FUNCTION snapdex._live(chunk_id text, filtered boolean) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    -- SQL text of the test "this chunk belongs to version $2 (and passes filter $3 and path pattern $4)".
    -- A scalar subquery, because EXISTS lets the planner leave the HNSW scan for a join.
    SELECT format('(SELECT true FROM occurrence o JOIN membership m USING (revision_id)%s WHERE o.chunk_id = %s
                    AND m.from_version <= $2 AND m.to_version > $2%s LIMIT 1)',
                  CASE WHEN filtered THEN ' JOIN revision r ON r.id = o.revision_id' ELSE '' END, chunk_id,
                  CASE WHEN filtered THEN ' AND snapdex._matches(r.metadata, r.title, r.media_type, $3) AND m.document LIKE $4' ELSE '' END)
$$;

CREATE OR REPLACE FUNCTION snapdex._path_pattern(filter jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN filter ? 'document'
        THEN replace(replace(replace(replace(filter->>'document', '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')
        ELSE '%' END
$$;

CREATE OR REPLACE FUNCTION snapdex._make_walk(index_id int, space_id int) RETURNS void LANGUAGE plpgsql
SET search_path FROM CURRENT AS $make$
-- The walk through the graph of one table of vectors, as a function whose plan a session makes once: making it for each search
-- took a seventh of its time. With its values unknown and other ways open, the planner left the graph and lost all recall.
DECLARE
    content text := snapdex._schema(index_id);
    statement text := format(
        'WITH c AS MATERIALIZED (
            SELECT x.chunk_id, x.embedding <=> $1 AS d FROM %I x WHERE %%s
            ORDER BY x.embedding <=> $1 LIMIT $5),
         top AS (SELECT c.chunk_id, c.d + 0 AS d, chunk.key FROM c JOIN chunk ON chunk.id = c.chunk_id
                 ORDER BY 2, 3 LIMIT $6)
         SELECT array_agg(top.chunk_id ORDER BY d, key), array_agg(1 - d ORDER BY d, key), array_agg(key ORDER BY d, key)
         INTO ids, scores, keys FROM top', 'vectors_' || space_id);
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION %1$I.%2$I(
             query halfvec, version int, metadata jsonb, paths text, candidates int, k int,
             OUT ids bigint[], OUT scores float8[], OUT keys bytea[]) LANGUAGE plpgsql STABLE
         SET search_path = %1$I, {vector_schema}, pg_catalog SET plan_cache_mode = force_generic_plan
         SET enable_seqscan = off SET enable_sort = off SET enable_hashjoin = off SET enable_mergejoin = off AS $walk$
         BEGIN
             IF metadata IS NULL THEN %3$s; ELSE %4$s; END IF;
         END $walk$',
        content, 'walk_' || space_id, format(statement, snapdex._live('x.chunk_id', false)),
        format(statement, snapdex._live('x.chunk_id', true)));
END $make$;

CREATE OR REPLACE FUNCTION snapdex._dense(v snapdex.version, query {vector_schema}.vector, k int, filter jsonb, exact boolean)
RETURNS TABLE (chunk_id bigint, score float8, key bytea) LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT SET enable_hashjoin = on SET enable_mergejoin = on AS $$
-- What is set below ends with the function.
DECLARE
    content text := snapdex._schema(v.index_id);
    vectors text := format('%I.%I', content, 'vectors_' || v.space_id);
    filtered boolean := filter <> '{}'::jsonb;
    metadata jsonb := filter - 'document';
    paths text := snapdex._path_pattern(filter);
    in_space float8 := greatest(1, (SELECT reltuples FROM pg_class WHERE oid = vectors::regclass));
    in_reach bigint := v.chunks;
    candidates int := greatest(40, k);
    width float8;           -- chunks of all versions that one walk has to meet, to meet the candidates among them
    ids bigint[];
    scores float8[];
    keys bytea[];
BEGIN
    PERFORM set_config('search_path', format('%I, {vector_schema}, pg_catalog', content), true);
    IF filtered THEN
        EXECUTE 'SELECT coalesce(sum(r.chunks), 0) FROM membership m JOIN revision r ON r.id = m.revision_id WHERE '
                || snapdex._passes()
        INTO in_reach USING v.number, metadata, paths;
    END IF;
    -- The share of the graph decides: below it, walking past foreign chunks costs more than computing every distance,
    -- and finds less. docs/decisions/003-exact-or-hnsw.md has the measurements.
    IF in_reach::float8 * in_reach <= 500 * in_space THEN
        -- Follow the rows of the reach one by one: the planner would rather read the tables of all versions (measured:
        -- 44 against 1.4 ms for 500 of 100,000 chunks).
        PERFORM set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true);
    ELSIF NOT exact THEN
        IF in_reach < in_space / 8 THEN
            candidates := greatest(60, k);  -- the nearest of a small share are found less surely
        END IF;
        -- Among the chunks of other versions, one wide walk meets as many of this one as several narrow ones, and sooner.
        -- A graph of fewer than 65,536 vectors has fewer links, which makes up for it (load.py builds it). One walk comes back
        -- in order of distance: where it is wide enough, more than k are not looked at.
        width := 1.25 * candidates * in_space / in_reach;
        IF width <= 400 THEN
            candidates := k;
        END IF;
        PERFORM set_config('hnsw.ef_search', greatest(CASE WHEN in_space < 65536 THEN 350 ELSE 100 END, least(400, width))::int::text, true),
                set_config('hnsw.iterative_scan', 'relaxed_order', true);
        EXECUTE format('SELECT * FROM %I.%I($1::halfvec, $2, $3, $4, $5, $6)', content, 'walk_' || v.space_id)
        INTO ids, scores, keys
        USING query, v.number, CASE WHEN filtered THEN metadata END, paths, candidates, k;
    END IF;
    -- Also where the iterative scan gave up (hnsw.max_scan_tuples) before it had k rows: k come back when k exist.
    IF coalesce(cardinality(ids), 0) < least(k, in_reach) THEN
        EXECUTE format(
            'WITH reach AS (
                SELECT DISTINCT o.chunk_id FROM membership m JOIN occurrence o USING (revision_id)%s
                WHERE m.from_version <= $2 AND m.to_version > $2%s),
             c AS MATERIALIZED (SELECT x.chunk_id, x.embedding <=> $1::halfvec AS d FROM reach JOIN %s x USING (chunk_id)),
             near AS (SELECT c.chunk_id, c.d FROM c ORDER BY c.d FETCH FIRST $5 ROWS WITH TIES),
             top AS (SELECT near.chunk_id, near.d, chunk.key FROM near JOIN chunk ON chunk.id = near.chunk_id
                     ORDER BY near.d, chunk.key LIMIT $5)
             SELECT array_agg(top.chunk_id ORDER BY d, key), array_agg(1 - d ORDER BY d, key), array_agg(key ORDER BY d, key)
             FROM top',
            CASE WHEN filtered THEN ' JOIN revision r ON r.id = m.revision_id' ELSE '' END,
            CASE WHEN filtered THEN ' AND snapdex._matches(r.metadata, r.title, r.media_type, $3) AND m.document LIKE $4' ELSE '' END, vectors)
        INTO ids, scores, keys USING query, v.number, metadata, paths, k;
    END IF;
    RETURN QUERY SELECT * FROM unnest(ids, scores, keys);
END $$;

-- -- lexical ----------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION snapdex._lexical(v snapdex.version, query text, k int, filter jsonb)
RETURNS TABLE (chunk_id bigint, score float8, key bytea) LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan SET enable_seqscan = off AS $$
-- Exact BM25 (k1 = 1.2, b = 0.75; Robertson and Zaragoza 2009) with document frequencies of the version. MaxScore
-- (Turtle and Flood 1995): chunks are scored in full if they hold one of the rarest terms; the common ones may be left
-- out as sources of candidates once all of them together could not lift a chunk over the k-th best. Candidates come from
-- the index of terms: the planner thinks that comparing each chunk's terms costs little (measured: 25 against 5 ms).
DECLARE
    language regconfig := (SELECT i.language FROM snapdex.index i WHERE i.id = v.index_id);
    filtered boolean := filter <> '{}'::jsonb;
    terms int[];
    frequencies bigint[];
    idfs float8[];
    weights text;
    sources int := 0;       -- how many of the terms, rarest first, give candidates
    reach bigint := 0;
    rest float8;            -- the most that the other terms can add
    threshold float8;
    answers int;
    ids bigint[];
    scores float8[];
    keys bytea[];
    past text := CASE WHEN EXISTS (SELECT FROM snapdex.version n WHERE n.index_id = v.index_id AND n.number > v.number)
        THEN 'UNION ALL SELECT l.chunk_id, -(l.weights <#> $1::sparsevec) FROM lexical l WHERE l.terms && $5 AND NOT l.current'
        ELSE '' END;  -- an earlier version may hold chunks that the newest one does not; no version holds those being loaded
BEGIN
    PERFORM set_config('search_path', format('%I, snapdex, {vector_schema}, pg_catalog', snapdex._schema(v.index_id)), true);
    EXECUTE
        'WITH query AS (SELECT term, occurrences FROM snapdex.terms($1, $2)),
         known AS (SELECT q.term, q.occurrences, f.n FROM query q CROSS JOIN LATERAL (
                       SELECT chunks::bigint AS n FROM document_frequency f WHERE f.term = q.term AND f.version <= $3
                       ORDER BY f.version DESC LIMIT 1) f WHERE f.n > 0),
         weighted AS (SELECT term, n, occurrences * ln(1 + ($4 - n + 0.5) / (n + 0.5))::float8 AS idf FROM known)
         SELECT array_agg(term ORDER BY n, term), array_agg(n ORDER BY n, term), array_agg(idf ORDER BY n, term),
                ''{'' || string_agg(term || '':'' || idf::real, '','') || ''}/1000000000'' FROM weighted'
    INTO terms, frequencies, idfs, weights USING language, query, v.number, v.chunks::float8;
    IF terms IS NULL THEN
        RETURN;
    END IF;
    WHILE sources < cardinality(terms) AND (sources = 0 OR reach + frequencies[sources + 1] <= 3000) LOOP
        sources := sources + 1;
        reach := reach + frequencies[sources];
    END LOOP;
    LOOP
        EXECUTE format(
            'WITH c AS MATERIALIZED (
                SELECT l.chunk_id, -(l.weights <#> $1::sparsevec) AS s FROM lexical l WHERE l.terms && $5 AND l.current
                %2$s),
             best AS MATERIALIZED (
                SELECT s FROM (SELECT c.chunk_id, c.s FROM c ORDER BY c.s DESC OFFSET 0) x WHERE %1$s LIMIT $6),
             top AS (
                SELECT x.chunk_id, x.s, chunk.key FROM c x JOIN chunk ON chunk.id = x.chunk_id
                WHERE x.s >= (SELECT min(s) FROM best) AND %1$s ORDER BY x.s DESC, chunk.key LIMIT $6)
             SELECT array_agg(top.chunk_id ORDER BY s DESC, key), array_agg(s ORDER BY s DESC, key),
                    array_agg(key ORDER BY s DESC, key), min(s), count(*)
             FROM top', snapdex._live('x.chunk_id', filtered), past)
        INTO ids, scores, keys, threshold, answers
        USING weights, v.number, filter - 'document', snapdex._path_pattern(filter), terms[:sources], k;
        EXIT WHEN sources = cardinality(terms);
        rest := (SELECT sum(idf) * 2.2 FROM unnest(idfs[sources + 1:]) AS idf);
        EXIT WHEN answers = k AND rest < threshold * 0.9999;
        LOOP  -- as many terms as it takes; with the higher threshold of the next round this can only be enough
            sources := sources + 1;
            EXIT WHEN sources = cardinality(terms);
            rest := rest - 2.2 * idfs[sources];
            EXIT WHEN answers = k AND rest < threshold * 0.9999;
        END LOOP;
    END LOOP;
    RETURN QUERY SELECT * FROM unnest(ids, scores, keys);
END $$;

-- -- hybrid -----------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION snapdex._hybrid(
    v snapdex.version, query_vector {vector_schema}.vector, query_text text, k int, filter jsonb, dense_weight float8,
    exact boolean, fusion text)
RETURNS TABLE (chunk_id bigint, score float8, similarity float8, bm25 float8) LANGUAGE sql STABLE AS $$
    -- Each row also has the best scores of both legs as they are.
    -- convex: of min-max normalised scores (Bruch, Gai and Ingber 2023); what a leg did not find counts as its 0.
    -- rrf: reciprocal ranks, which know no scores and no weight (Cormack, Clarke and Buettcher 2009, also the 60).
    WITH legs AS (
        SELECT 1 AS leg, dense_weight AS weight, * FROM snapdex._dense(v, query_vector, greatest(100, k), filter, exact)
        WITH ORDINALITY AS x (chunk_id, score, key, rank)
        UNION ALL
        SELECT 2, 1 - dense_weight, * FROM snapdex._lexical(v, query_text, greatest(100, k), filter)
        WITH ORDINALITY AS x (chunk_id, score, key, rank)),
    scaled AS (
        SELECT chunk_id, key, CASE WHEN fusion = 'rrf' THEN 1 / (60 + rank)::float8 ELSE weight
               * coalesce((score - min(score) OVER w) / nullif(max(score) OVER w - min(score) OVER w, 0), 1) END AS score
        FROM legs WINDOW w AS (PARTITION BY leg))
    SELECT chunk_id, sum(score), (SELECT max(score) FROM legs WHERE leg = 1), (SELECT coalesce(max(score), 0) FROM legs WHERE leg = 2)
    FROM scaled GROUP BY chunk_id, key ORDER BY 2 DESC, key
$$;

-- -- evidence ---------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION snapdex._coverage(v snapdex.version, query text, bm25 float8) RETURNS float8 LANGUAGE plpgsql
STABLE SET search_path FROM CURRENT AS $$
-- Which share of the query's weight in words a chunk with this score has: of the BM25 score that no chunk can exceed, with
-- every term of the query, also those that the version does not have.
DECLARE
    most float8;
BEGIN
    EXECUTE format(
        'SELECT 2.2 * sum(q.occurrences * ln(1 + ($3 - n + 0.5) / (n + 0.5)))
         FROM (SELECT i.language FROM snapdex.index i WHERE i.id = $4) i CROSS JOIN snapdex.terms(i.language, $1) q
         CROSS JOIN LATERAL (SELECT coalesce((SELECT f.chunks FROM %I.document_frequency f WHERE f.term = q.term
                                              AND f.version <= $2 ORDER BY f.version DESC LIMIT 1), 0) AS n) f',
        snapdex._schema(v.index_id))
    INTO most USING query, v.number, v.chunks::float8, v.index_id;
    RETURN coalesce(bm25 / nullif(most, 0), 0);
END $$;

CREATE OR REPLACE FUNCTION snapdex._is_little(calibration jsonb, similarity float8, coverage float8) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    -- Both in units of their spread over answerable queries, added, are compared with what was learned
    -- (pipelines/evaluate/calibration.py).
    SELECT coalesce(similarity / (calibration->>'similarity_spread')::float8
                    + coverage / (calibration->>'coverage_spread')::float8 < (calibration->>'threshold')::float8, false)
$$;

CREATE OR REPLACE FUNCTION snapdex.coverage(index text, query_text text, filter jsonb DEFAULT '{}', at int DEFAULT NULL)
RETURNS float8 LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, {vector_schema} AS $$
-- Which share of the query's weight in words the best chunk has.
DECLARE
    v snapdex.version := snapdex._resolve(index, at);
BEGIN
    RETURN snapdex._coverage(v, query_text, (SELECT max(l.score) FROM snapdex._lexical(v, query_text, 1, filter) l));
END $$;

CREATE OR REPLACE FUNCTION snapdex.evidence(
    index text, query_vector {vector_schema}.vector, query_text text, filter jsonb DEFAULT '{}', at int DEFAULT NULL,
    exact boolean DEFAULT false)
RETURNS TABLE (similarity float8, coverage float8, abstained boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, {vector_schema} AS $$
-- How near the nearest chunk is, the coverage, and whether that is so little that the version abstains.
DECLARE
    v snapdex.version := snapdex._resolve(index, at);
BEGIN
    similarity := (SELECT max(d.score) FROM snapdex._dense(v, query_vector, 1, filter, exact) d);
    coverage := snapdex.coverage(index, query_text, filter, v.number);
    abstained := snapdex._is_little(v.calibration, similarity, coverage);
    RETURN NEXT;
END $$;

-- -- choosing among candidates -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION snapdex._diverse(
    v snapdex.version, ids bigint[], scores float8[], k int, mmr_lambda float8, collapse float8)
RETURNS TABLE (chunk_id bigint, score float8, like_of bigint) LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT AS $$
-- Up to k of the candidates, which come in order of rank, by maximal marginal relevance (Carbonell and Goldstein 1998):
-- the next is the one with the greatest mmr_lambda * relevance - (1 - mmr_lambda) * similarity to the nearest chosen one.
-- Those at least as similar as `collapse` to a chosen one are never chosen, and returned as `like_of` it.
DECLARE
    embeddings {vector_schema}.halfvec[];
    relevance float8[];
    nearest float8[] := array_fill(-1::float8, ARRAY[cardinality(ids)]);  -- NULL: not to be chosen any more
    least_alike float8 := CASE WHEN collapse = 1 THEN 'Infinity' ELSE collapse END;
    best bigint;
    alike bigint[];
BEGIN
    EXECUTE format('SELECT array_agg(x.embedding ORDER BY c.place) FROM unnest($1) WITH ORDINALITY AS c (id, place)
                    LEFT JOIN %I.%I x ON x.chunk_id = c.id', snapdex._schema(v.index_id), 'vectors_' || v.space_id)
    INTO embeddings USING ids;
    SELECT array_agg(coalesce((s - low) / nullif(high - low, 0), 1) ORDER BY place) INTO relevance
    FROM unnest(scores) WITH ORDINALITY AS c (s, place), (SELECT min(s) AS low, max(s) AS high FROM unnest(scores) s) x;
    FOR chosen IN 1..k LOOP
        best := (SELECT place FROM unnest(relevance, nearest) WITH ORDINALITY AS c (r, n, place) WHERE n IS NOT NULL
                 ORDER BY mmr_lambda * r - (1 - mmr_lambda) * n DESC, place LIMIT 1);
        EXIT WHEN best IS NULL;
        SELECT array_agg(CASE WHEN place <> best AND n IS NOT NULL AND s < least_alike THEN greatest(n, s) END ORDER BY place),
               array_agg(ids[place] ORDER BY place) FILTER (WHERE place <> best AND n IS NOT NULL AND s >= least_alike)
        INTO nearest, alike
        FROM (SELECT place, n, coalesce(nullif(1 - (e <=> embeddings[best]), 'NaN'), 0) AS s  -- NaN: a vector of zeros
              FROM unnest(embeddings, nearest) WITH ORDINALITY AS c (e, n, place)) x;
        RETURN QUERY SELECT ids[best], scores[best], NULL::bigint UNION ALL SELECT a, NULL, ids[best] FROM unnest(alike) a;
    END LOOP;
END $$;

-- -- hits -------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION snapdex._place(chunk_id text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    -- SQL text of a chunk's first place, in byte order of the document, in version $1 with filter $2 and path pattern $3.
    SELECT format('(SELECT m.document, o.*, r.key, r.title, r.media_type, r.metadata, r.content_sha256,
                           array_agg(m.document) OVER (
                               ORDER BY m.document, o.ordinal ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS documents
                    FROM (SELECT DISTINCT ON (o.revision_id) o.revision_id, o.ordinal, o.section, o.page, o.start_at, o.end_at,
                                 o.parent_start, o.parent_end
                          FROM occurrence o WHERE o.chunk_id = %s ORDER BY o.revision_id, o.ordinal) o
                    JOIN membership m USING (revision_id) JOIN revision r ON r.id = o.revision_id
                    WHERE %s ORDER BY m.document, o.ordinal LIMIT 1)', chunk_id, snapdex._passes())
$$;

CREATE OR REPLACE FUNCTION snapdex._merged(v snapdex.version, ids bigint[], k int, filter jsonb, expand text)
RETURNS TABLE (chunk_id bigint, best bigint, start_at int, end_at int) LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan AS $$
-- The ranges of text that the first of `ids` (in order of rank) widen to, as many of them as make k ranges: their section,
-- or the chunks before and after them. Ranges of one revision that are the same section, or touch, are one; `best` is
-- the first chunk in it.
BEGIN
    PERFORM set_config('search_path', format('%I, {vector_schema}, pg_catalog', snapdex._schema(v.index_id)), true);
    RETURN QUERY EXECUTE format(
        'WITH hit AS MATERIALIZED (
            SELECT h.id, h.rank, p.revision_id,
                   CASE WHEN $5 = ''section'' THEN int4range(p.parent_start, p.parent_end) END AS parent,
                   CASE WHEN $5 = ''section'' THEN int4range(p.parent_start, p.parent_end)
                        ELSE int4range(p.ordinal - 1, p.ordinal + 2) END AS reach
            FROM unnest($4) WITH ORDINALITY AS h (id, rank) CROSS JOIN LATERAL %s p),
         united AS (SELECT *, range_agg(reach) OVER (PARTITION BY revision_id, parent ORDER BY rank) AS ranges FROM hit),
         counted AS (SELECT *, (SELECT count(*) FROM unnest(ranges)) AS n FROM united),
         grown AS (SELECT *, n - lag(n, 1, 0::bigint) OVER (PARTITION BY revision_id, parent ORDER BY rank) AS more FROM counted),
         summed AS (SELECT *, sum(more) OVER (ORDER BY rank) AS ranges_so_far FROM grown),
         taken AS MATERIALIZED (
            SELECT * FROM summed WHERE rank <= coalesce((SELECT min(rank) FROM summed WHERE ranges_so_far = $6), rank)),
         merged AS (SELECT revision_id, parent, unnest(range_agg(reach)) AS reach FROM taken GROUP BY 1, 2),
         ends AS (
            SELECT m.*, e.* FROM merged m CROSS JOIN LATERAL (
                SELECT coalesce(lower(m.parent), min(o.start_at)) AS low, coalesce(upper(m.parent), max(o.end_at)) AS high
                FROM occurrence o WHERE o.revision_id = m.revision_id AND (m.parent IS NOT NULL OR o.ordinal <@ m.reach)) e)
         SELECT t.id, first_value(t.id) OVER (PARTITION BY e.revision_id, e.parent, e.reach ORDER BY t.rank), e.low, e.high
         FROM taken t JOIN ends e ON e.revision_id = t.revision_id AND e.parent IS NOT DISTINCT FROM t.parent
            AND t.reach <@ e.reach ORDER BY t.rank', snapdex._place('h.id'))
    USING v.number, filter - 'document', snapdex._path_pattern(filter), ids, expand, k;
END $$;

CREATE OR REPLACE FUNCTION snapdex._hits(
    v snapdex.version, ids bigint[], scores float8[], filter jsonb, alike bigint[], like_of bigint[], starts int[], ends int[])
RETURNS TABLE (
    rank int, score real, document text, chunk text, text text, section text[], page int, metadata jsonb, version int,
    snapshot text, content_sha256 text, revision text, start_at int, end_at int, parent_start int, parent_end int,
    also_in text[], similar text[])
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan AS $$
-- One hit per chunk, in the given order. `also_in` names the other documents that hold it, `similar` those of the chunks
-- `alike` that were left out for it. With `starts` and `ends` a hit is that range of its revision, put together from the
-- chunks in it; the space between two chunks is not stored, and becomes a line break or a blank line of the same length.
DECLARE
    as_it_is text := 'SELECT hit.text, p.section, p.page, p.start_at, p.end_at, p.parent_start, p.parent_end';
    widened text :=
        'SELECT string_agg(lpad(E''\n\n'', greatest(low - past, 0))
                    || substr(text, greatest(low, past) - start_at + 1, greatest(high - greatest(low, past), 0)), '''' ORDER BY ordinal),
                shortest[:(SELECT count(*) FROM generate_series(1, cardinality(shortest)) i WHERE shortest[:i] = longest[:i])],
                min(page) FILTER (WHERE past IS NULL), min(low) FILTER (WHERE past IS NULL), max(high),
                least(p.parent_start, min(low)), greatest(p.parent_end, max(high))
         FROM (SELECT *, min(section) FILTER (WHERE whole) OVER () AS shortest, max(section) FILTER (WHERE whole) OVER () AS longest,
                      max(high) OVER (ORDER BY ordinal ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS past
               FROM (SELECT o.*, c.text, greatest(o.start_at, hit.low) AS low, least(o.end_at, hit.high) AS high,
                            o.start_at >= hit.low AND o.end_at <= hit.high AS whole
                     FROM occurrence o JOIN chunk c ON c.id = o.chunk_id
                     WHERE o.revision_id = p.revision_id AND o.start_at < hit.high AND o.end_at > hit.low) inside) x
         GROUP BY shortest, longest';
BEGIN
    PERFORM set_config('search_path', format('%I, {vector_schema}, pg_catalog', snapdex._schema(v.index_id)), true);
    RETURN QUERY EXECUTE format(
        'WITH hit AS (
            SELECT h.*, c.key, c.text FROM unnest($4, $5, $6, $7) WITH ORDINALITY AS h (id, score, low, high, rank)
            JOIN chunk c ON c.id = h.id)
         SELECT hit.rank::int, hit.score::real, p.document, encode(hit.key, ''hex''), w.text, w.section, w.page,
                p.metadata || jsonb_strip_nulls(jsonb_build_object(''title'', p.title, ''media_type'', p.media_type)),
                $1, $8, encode(p.content_sha256, ''hex''), encode(p.key, ''hex''), w.start_at, w.end_at, w.parent_start,
                w.parent_end, p.documents[2:],
                ARRAY(SELECT DISTINCT m.document FROM unnest($9, $10) AS a (id, of)
                      JOIN occurrence o ON o.chunk_id = a.id JOIN membership m USING (revision_id) JOIN revision r ON r.id = o.revision_id
                      WHERE a.of = hit.id AND m.document <> p.document AND %s ORDER BY 1)
         FROM hit CROSS JOIN LATERAL %s p
         CROSS JOIN LATERAL (%s) w (text, section, page, start_at, end_at, parent_start, parent_end) ORDER BY hit.rank',
        snapdex._passes(), snapdex._place('hit.id'), CASE WHEN starts IS NULL THEN as_it_is ELSE widened END)
    USING v.number, filter - 'document', snapdex._path_pattern(filter), ids, scores, starts, ends, v.snapshot, alike, like_of;
END $$;

CREATE OR REPLACE FUNCTION snapdex.retrieve(
    index text, mode text, query_vector {vector_schema}.vector, query_text text, k int DEFAULT 10, filter jsonb DEFAULT '{}',
    at int DEFAULT NULL, dense_weight float8 DEFAULT 0.5, exact boolean DEFAULT false, fusion text DEFAULT 'convex',
    mmr_lambda float8 DEFAULT 1, collapse float8 DEFAULT 1, expand text DEFAULT 'chunk')
RETURNS TABLE (
    rank int, score real, document text, chunk text, text text, section text[], page int, metadata jsonb, version int,
    snapshot text, content_sha256 text, revision text, start_at int, end_at int, parent_start int, parent_end int,
    also_in text[], similar text[], abstained boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, {vector_schema} AS $$
-- STABLE: pointer, hits, text and lineage are read from one snapshot of the database, so from one version.
-- abstained: whether the evidence is too little; it takes the best scores that the search had anyway.
-- Where hits are chosen among candidates, or become one, it begins with a few times as many as are wanted, and asks for
-- more until k are left or all were seen.
DECLARE
    v snapdex.version := snapdex._resolve(index, at);
    dimension int := (SELECT s.dimension FROM snapdex.embedding_space s WHERE s.id = v.space_id);
    diverse boolean := mmr_lambda < 1 OR collapse < 1;
    wanted int;         -- chunks, before neighbours become one
    pool int;           -- candidates to choose them from
    found int;
    ids bigint[];
    scores float8[];
    alike bigint[];     -- left out because they are like these
    like_of bigint[];
    starts int[];
    ends int[];
    similarity float8;
    bm25 float8;
BEGIN
    k := coalesce(k, 10);
    filter := coalesce(filter, '{}');
    IF k < 1 OR k > 10000 THEN
        RAISE EXCEPTION 'k must be between 1 and 10000, not %', k USING ERRCODE = 'SX002';
    ELSIF coalesce(mode, '') NOT IN ('dense', 'lexical', 'hybrid') THEN
        RAISE EXCEPTION 'mode must be dense, lexical or hybrid, not %', mode USING ERRCODE = 'SX002';
    ELSIF jsonb_typeof(filter) <> 'object' OR coalesce(jsonb_typeof(filter->'document'), 'string') <> 'string' THEN
        RAISE EXCEPTION 'the filter must be an object, and its document a text' USING ERRCODE = 'SX002';
    ELSIF mode <> 'lexical' AND coalesce(vector_norm(query_vector), 0) = 0 THEN
        RAISE EXCEPTION 'the query vector is missing or zero' USING ERRCODE = 'SX002';
    ELSIF mode <> 'dense' AND query_text IS NULL THEN
        RAISE EXCEPTION 'the query text is missing' USING ERRCODE = 'SX002';
    ELSIF mode = 'hybrid' AND coalesce(dense_weight NOT BETWEEN 0 AND 1, true) THEN
        RAISE EXCEPTION 'dense_weight must be between 0 and 1, not %', dense_weight USING ERRCODE = 'SX002';
    ELSIF coalesce(fusion, '') NOT IN ('convex', 'rrf') THEN
        RAISE EXCEPTION 'fusion must be convex or rrf, not %', fusion USING ERRCODE = 'SX002';
    ELSIF coalesce(mmr_lambda NOT BETWEEN 0 AND 1 OR collapse NOT BETWEEN 0 AND 1, true) THEN
        RAISE EXCEPTION 'mmr_lambda and collapse must be between 0 and 1' USING ERRCODE = 'SX002';
    ELSIF diverse AND k > 1000 THEN
        RAISE EXCEPTION 'k must be between 1 and 1000 where hits are compared with each other, not %', k USING ERRCODE = 'SX002';
    ELSIF coalesce(expand, '') NOT IN ('chunk', 'section', 'neighbours') THEN
        RAISE EXCEPTION 'expand must be chunk, section or neighbours, not %', expand USING ERRCODE = 'SX002';
    END IF;
    IF mode <> 'lexical' AND vector_dims(query_vector) <> dimension THEN
        RAISE EXCEPTION 'the query vector has % dimensions, version % needs %', vector_dims(query_vector), v.number, dimension
        USING ERRCODE = 'SX002';
    END IF;
    wanted := CASE expand WHEN 'chunk' THEN k ELSE 4 * k END;
    pool := CASE WHEN diverse THEN greatest(40, 4 * wanted) ELSE wanted END;
    LOOP
        IF mode = 'dense' THEN
            SELECT array_agg(x.chunk_id), array_agg(x.score) INTO ids, scores FROM snapdex._dense(v, query_vector, pool, filter, exact) x;
            similarity := scores[1];
        ELSIF mode = 'lexical' THEN
            SELECT array_agg(x.chunk_id), array_agg(x.score) INTO ids, scores FROM snapdex._lexical(v, query_text, pool, filter) x;
            bm25 := scores[1];
        ELSE
            SELECT array_agg(x.chunk_id), array_agg(x.score), max(x.similarity), max(x.bm25) INTO ids, scores, similarity, bm25
            FROM snapdex._hybrid(v, query_vector, query_text, pool, filter, dense_weight, exact, fusion) x;
        END IF;
        found := coalesce(cardinality(ids), 0);
        IF found = 0 THEN
            RETURN;
        END IF;
        ids := ids[:pool];
        scores := scores[:pool];
        IF diverse THEN
            SELECT array_agg(x.chunk_id) FILTER (WHERE x.like_of IS NULL), array_agg(x.score) FILTER (WHERE x.like_of IS NULL),
                   array_agg(x.chunk_id) FILTER (WHERE x.like_of IS NOT NULL), array_agg(x.like_of) FILTER (WHERE x.like_of IS NOT NULL)
            INTO ids, scores, alike, like_of FROM snapdex._diverse(v, ids, scores, wanted, mmr_lambda, collapse) x;
        END IF;
        IF expand <> 'chunk' THEN
            WITH merged AS MATERIALIZED (SELECT * FROM snapdex._merged(v, ids, k, filter, expand))
            SELECT array_agg(m.chunk_id ORDER BY h.place), array_agg(h.score ORDER BY h.place), array_agg(m.start_at ORDER BY h.place),
                   array_agg(m.end_at ORDER BY h.place),
                   (SELECT array_agg(m.best ORDER BY l.place) FROM unnest(like_of) WITH ORDINALITY AS l (id, place)
                    LEFT JOIN merged m ON m.chunk_id = l.id)
            INTO ids, scores, starts, ends, like_of
            FROM unnest(ids, scores) WITH ORDINALITY AS h (id, score, place) JOIN merged m ON m.best = h.id AND m.chunk_id = h.id;
        END IF;
        EXIT WHEN cardinality(ids) >= k OR found < pool;
        wanted := 4 * wanted;
        pool := 4 * pool;
    END LOOP;
    abstained := false;
    IF v.calibration->>'threshold' IS NOT NULL AND query_vector IS NOT NULL AND query_text IS NOT NULL THEN
        similarity := coalesce(similarity, (SELECT max(d.score) FROM snapdex._dense(v, query_vector, 1, filter, exact) d));
        bm25 := coalesce(bm25, (SELECT max(l.score) FROM snapdex._lexical(v, query_text, 1, filter) l));
        abstained := snapdex._is_little(v.calibration, similarity, snapdex._coverage(v, query_text, bm25));
    END IF;
    RETURN QUERY SELECT h.*, abstained FROM snapdex._hits(v, ids[:k], scores[:k], filter, alike, like_of, starts, ends) h;
END $$;

CREATE OR REPLACE FUNCTION snapdex.search(
    index text, query {vector_schema}.vector, k int DEFAULT 10, filter jsonb DEFAULT '{}', at int DEFAULT NULL)
RETURNS TABLE (rank int, score real, document text, chunk text, text text, section text[], page int, metadata jsonb,
               version int, snapshot text)
LANGUAGE sql STABLE AS $$
    SELECT rank, score, document, chunk, text, section, page, metadata, version, snapshot
    FROM snapdex.retrieve(index, 'dense', query, NULL, k, filter, at)
$$;

CREATE OR REPLACE FUNCTION snapdex.search_lexical(
    index text, query text, k int DEFAULT 10, filter jsonb DEFAULT '{}', at int DEFAULT NULL)
RETURNS TABLE (rank int, score real, document text, chunk text, text text, section text[], page int, metadata jsonb,
               version int, snapshot text)
LANGUAGE sql STABLE AS $$
    SELECT rank, score, document, chunk, text, section, page, metadata, version, snapshot
    FROM snapdex.retrieve(index, 'lexical', NULL, query, k, filter, at)
$$;

-- -- the pointer ------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION snapdex.move_pointer(
    index_name text, to_version int, expected_epoch bigint, operation uuid, kind text, actor text, reason text)
RETURNS snapdex.operation LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
-- Compare-and-set under the index row's lock. The same operation id again returns what it did the first time.
DECLARE
    target snapdex.index;
    done snapdex.operation;
BEGIN
    SELECT * INTO target FROM snapdex.index i WHERE i.name = index_name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no index %', index_name USING ERRCODE = 'SX006';
    END IF;
    SELECT * INTO done FROM snapdex.operation o WHERE o.id = operation;
    IF FOUND THEN
        RETURN done;
    END IF;
    IF NOT EXISTS (SELECT FROM snapdex.version v WHERE v.index_id = target.id AND v.number = to_version) THEN
        RAISE EXCEPTION 'index % has no version %', index_name, to_version USING ERRCODE = 'SX006';
    END IF;
    IF target.epoch <> expected_epoch THEN
        RAISE EXCEPTION 'index % was published by somebody else: version % is active now', index_name, target.active_version
        USING ERRCODE = 'SX005';
    END IF;
    UPDATE snapdex.index i SET active_version = to_version, epoch = i.epoch + 1 WHERE i.id = target.id;
    INSERT INTO snapdex.operation (id, index_id, kind, version, previous, epoch, actor, reason)
    VALUES (operation, target.id, kind, to_version, target.active_version, target.epoch + 1, actor, reason)
    RETURNING * INTO done;
    RETURN done;
END $$;

-- -- views ------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE VIEW snapdex.indexes AS
    SELECT i.id, i.name, i.language::text AS language, i.average_terms, i.epoch, i.last_version, i.active_version
    FROM snapdex.index i;

CREATE OR REPLACE FUNCTION snapdex._maintained(index_id int) RETURNS bigint LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog AS $$
-- Grows whenever content was taken away or brought back.
BEGIN
    RETURN (SELECT coalesce(max(m.id), 0) FROM snapdex.maintenance m WHERE m.index_id = _maintained.index_id);
END $$;

-- Another column goes to the end. Those from later migrations are read by name, because schemas before them get this text too.
CREATE OR REPLACE VIEW snapdex.versions AS
    SELECT i.name AS index, v.number AS version, v.snapshot, v.parent, v.created_at,
           v.number IS NOT DISTINCT FROM i.active_version AS active,
           ARRAY(SELECT t.name FROM snapdex.tag t WHERE t.index_id = i.id AND t.version = v.number ORDER BY t.name) AS tags,
           v.documents, v.chunks, s.model, s.revision AS model_revision, s.dimension, v.recipe, v.metrics, v.git_commit,
           v.dvc_md5, v.prefect_run, v.mlflow_run, i.id AS index_id, s.fingerprint AS space, v.report,
           to_jsonb(v) -> 'calibration' AS calibration, to_jsonb(v) -> 'gate' AS gate
    FROM snapdex.version v JOIN snapdex.index i ON i.id = v.index_id JOIN snapdex.embedding_space s ON s.id = v.space_id;

CREATE OR REPLACE FUNCTION snapdex.documents(index text, at int DEFAULT NULL)
RETURNS TABLE (document text, content_sha256 text, media_type text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
-- The documents of a version, in byte order of their URI.
DECLARE
    v snapdex.version := snapdex._resolve(index, at);
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT m.document, encode(r.content_sha256, ''hex''), r.media_type
         FROM %1$I.membership m JOIN %1$I.revision r ON r.id = m.revision_id
         WHERE m.from_version <= $1 AND m.to_version > $1 ORDER BY m.document', snapdex._schema(v.index_id))
    USING v.number;
END $$;

CREATE OR REPLACE FUNCTION snapdex.changed_chunks(index text, before int, after int)
RETURNS TABLE (added bigint, removed bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
-- How many distinct chunks came and went from one version to another.
DECLARE
    a snapdex.version := snapdex._resolve(index, before);
    b snapdex.version := snapdex._resolve(index, after);
BEGIN
    PERFORM set_config('search_path', format('%I, pg_catalog', snapdex._schema(a.index_id)), true);
    RETURN QUERY EXECUTE
        'WITH differing AS (  -- revisions that are in one of the two only: all other chunks are in both
            SELECT revision_id FROM membership WHERE from_version <= $1 AND to_version > $1
            EXCEPT SELECT revision_id FROM membership WHERE from_version <= $2 AND to_version > $2
            UNION (SELECT revision_id FROM membership WHERE from_version <= $2 AND to_version > $2
            EXCEPT SELECT revision_id FROM membership WHERE from_version <= $1 AND to_version > $1)),
        chunks AS (
            SELECT c.chunk_id,
                EXISTS (SELECT FROM occurrence o JOIN membership m USING (revision_id) WHERE o.chunk_id = c.chunk_id
                        AND m.from_version <= $1 AND m.to_version > $1) AS before,
                EXISTS (SELECT FROM occurrence o JOIN membership m USING (revision_id) WHERE o.chunk_id = c.chunk_id
                        AND m.from_version <= $2 AND m.to_version > $2) AS after
            FROM (SELECT DISTINCT chunk_id FROM occurrence JOIN differing USING (revision_id)) c)
        SELECT count(*) FILTER (WHERE after AND NOT before), count(*) FILTER (WHERE before AND NOT after)
        FROM chunks' USING a.number, b.number;
END $$;

CREATE OR REPLACE FUNCTION snapdex._active_chunks()
RETURNS TABLE (index text, version int, snapshot text, document text, chunk text, text text, section text[], page int,
               metadata jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    v record;
BEGIN
    FOR v IN SELECT i.name, x.* FROM snapdex.index i JOIN snapdex.version x ON (x.index_id, x.number) = (i.id, i.active_version) LOOP
        RETURN QUERY EXECUTE format(
            'SELECT $1, $2, $3, m.document, encode(c.key, ''hex''), c.text, o.section, o.page, r.metadata
             FROM %1$I.membership m JOIN %1$I.revision r ON r.id = m.revision_id
             JOIN %1$I.occurrence o ON o.revision_id = r.id JOIN %1$I.chunk c ON c.id = o.chunk_id
             WHERE m.from_version <= $2 AND m.to_version > $2 ORDER BY m.document, o.ordinal',
            snapdex._schema(v.index_id)) USING v.name, v.number, v.snapshot;
    END LOOP;
END $$;

CREATE OR REPLACE VIEW snapdex.active_chunks AS SELECT * FROM snapdex._active_chunks();

-- -- the retrieval log ------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION snapdex.log_retrieval(
    index text, version int, mode text, k int, hits int, abstained boolean, seconds float8, share float8, query text,
    documents text[])
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '100ms' AS $$
-- A reader does not wait for its row to be on disk, nor for an erasure that rewrites the table.
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    LOCK TABLE snapdex.retrieval_log IN ROW EXCLUSIVE MODE;  -- an erasure is over before we look at what was erased
    INSERT INTO snapdex.retrieval_log (index_id, version, mode, k, hits, abstained, seconds, share, query, documents)
    SELECT i.id, log_retrieval.version, log_retrieval.mode, log_retrieval.k, log_retrieval.hits,
           log_retrieval.abstained, log_retrieval.seconds, log_retrieval.share, CASE WHEN d.erased = 0 THEN log_retrieval.query END, d.kept
    FROM snapdex.index i CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(x.name ORDER BY x.place) FILTER (WHERE NOT x.erased), '{}') AS kept,
               count(*) FILTER (WHERE x.erased) AS erased
        FROM (SELECT u.name, u.place, EXISTS (
                  SELECT FROM snapdex.erasure e WHERE e.index_id = i.id
                  AND e.document_sha256 = encode(sha256(convert_to(u.name, 'UTF8')), 'hex')) AS erased
              FROM unnest(log_retrieval.documents) WITH ORDINALITY AS u (name, place)) x) d
    WHERE i.name = log_retrieval.index;
END $$;

CREATE OR REPLACE FUNCTION snapdex._retrieval_weekly()
RETURNS TABLE (index text, week date, searches bigint, logged bigint, unanswered float8, p50_ms float8, p95_ms float8)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
-- A search that was logged with share s stands for 1 / s of them.
BEGIN
    RETURN QUERY
        SELECT i.name::text, date_trunc('week', l.at AT TIME ZONE 'UTC')::date, round(sum(1 / l.share))::bigint, count(*),
               coalesce(sum(1 / l.share) FILTER (WHERE l.abstained), 0) / sum(1 / l.share),
               1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY l.seconds),
               1000 * percentile_cont(0.95) WITHIN GROUP (ORDER BY l.seconds)
        FROM snapdex.retrieval_log l JOIN snapdex.index i ON i.id = l.index_id WHERE l.mode <> 'ask' GROUP BY 1, 2;
END $$;

CREATE OR REPLACE VIEW snapdex.retrieval_weekly AS SELECT * FROM snapdex._retrieval_weekly();

CREATE OR REPLACE FUNCTION snapdex.most_retrieved(index text, since timestamptz, k int DEFAULT 20)
RETURNS TABLE (document text, searches bigint) LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
BEGIN
    RETURN QUERY
        SELECT d.name, round(sum(1 / l.share))::bigint AS times
        FROM snapdex.index i JOIN snapdex.retrieval_log l ON l.index_id = i.id CROSS JOIN unnest(l.documents) AS d (name)
        WHERE i.name = most_retrieved.index AND l.at >= since AND l.mode <> 'ask'
        GROUP BY d.name ORDER BY times DESC, d.name COLLATE "C" LIMIT most_retrieved.k;
END $$;

CREATE OR REPLACE FUNCTION snapdex.most_cited(index text, since timestamptz, k int DEFAULT 20)
RETURNS TABLE (document text, answers bigint) LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
-- An answer is logged with mode `ask`, beside its searches, and with the documents that it cites.
BEGIN
    RETURN QUERY
        SELECT d.name, round(sum(1 / l.share))::bigint AS times
        FROM snapdex.index i JOIN snapdex.retrieval_log l ON l.index_id = i.id CROSS JOIN unnest(l.documents) AS d (name)
        WHERE i.name = most_cited.index AND l.at >= since AND l.mode = 'ask'
        GROUP BY d.name ORDER BY times DESC, d.name COLLATE "C" LIMIT most_cited.k;
END $$;

CREATE OR REPLACE FUNCTION snapdex.slowest(index text, since timestamptz, k int DEFAULT 20)
RETURNS TABLE (at timestamptz, mode text, milliseconds float8, hits int, query text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
-- The searches that took longest in the database; the query as far as it was kept.
BEGIN
    RETURN QUERY
        SELECT l.at, l.mode, 1000 * l.seconds, l.hits, l.query
        FROM snapdex.index i JOIN snapdex.retrieval_log l ON l.index_id = i.id
        WHERE i.name = slowest.index AND l.at >= since AND l.mode <> 'ask'
        ORDER BY l.seconds DESC, l.id LIMIT slowest.k;
END $$;

CREATE OR REPLACE FUNCTION snapdex.never_retrieved(index text, since timestamptz) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
-- Documents of the active version, in order, that no logged search has returned since.
DECLARE
    v snapdex.version := snapdex._resolve(index, NULL);
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT m.document::text FROM %I.membership m
         WHERE m.from_version <= $2 AND m.to_version > $2 AND m.revision_id <> 0 AND NOT EXISTS (
             SELECT FROM (SELECT DISTINCT d.document FROM snapdex.retrieval_log l CROSS JOIN unnest(l.documents) AS d (document)
                          WHERE l.index_id = $1 AND l.at >= $3 AND l.mode <> ''ask'') r WHERE r.document = m.document)
         ORDER BY m.document COLLATE "C"',
        snapdex._schema(v.index_id)) USING v.index_id, v.number, since;
END $$;

-- The tables of vectors that there are already; a later one gets its walk where it is made.
SELECT snapdex._make_walk(i.id, s.id) FROM snapdex.index i, snapdex.embedding_space s
WHERE to_regclass(format('%I.%I', snapdex._schema(i.id), 'vectors_' || s.id)) IS NOT NULL;
