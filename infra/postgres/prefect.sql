-- Once, as superuser, after databases.sql: the migrations of Prefect's server need trigrams.
\set ON_ERROR_STOP on
\connect prefect
CREATE EXTENSION pg_trgm WITH SCHEMA public;
