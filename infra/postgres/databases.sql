-- Once, as superuser, with psql on a server without these databases, after roles.sql. Passwords are read from files, one
-- each, in the directory SECRETS (of the environment of psql; default: /run/secrets).

\set ON_ERROR_STOP on
\set snapdex_password  `cat "${SECRETS:-/run/secrets}/snapdex_password"`
\set prefect_password  `cat "${SECRETS:-/run/secrets}/prefect_password"`
\set mlflow_password   `cat "${SECRETS:-/run/secrets}/mlflow_password"`
\set monitor_password  `cat "${SECRETS:-/run/secrets}/monitor_password"`
\set serve_password    `cat "${SECRETS:-/run/secrets}/serve_password"`

CREATE ROLE snapdex LOGIN PASSWORD :'snapdex_password';
CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE ROLE snapdex_monitor LOGIN PASSWORD :'monitor_password' CONNECTION LIMIT 10;
CREATE ROLE snapdex_serve LOGIN PASSWORD :'serve_password' IN ROLE snapdex_reader;

-- snapdex owns its schemas; from Postgres 16 on, granting a group role to others takes the right to administer it.
GRANT snapdex_reader, snapdex_publisher, snapdex_writer TO snapdex WITH ADMIN OPTION;

CREATE DATABASE snapdex OWNER snapdex ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE prefect OWNER prefect ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE mlflow OWNER mlflow ENCODING 'UTF8' TEMPLATE template0;

-- Nobody sees the database of another program.
REVOKE ALL ON DATABASE snapdex, prefect, mlflow FROM PUBLIC;
GRANT CONNECT ON DATABASE snapdex TO snapdex_reader, snapdex_publisher, snapdex_writer, snapdex_monitor;

\connect snapdex
CREATE EXTENSION vector WITH SCHEMA public;
