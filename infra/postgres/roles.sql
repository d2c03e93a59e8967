-- Run once by an administrator where the user of SNAPDEX_DATABASE_URL may not create roles. The next snapdex command
-- that migrates grants each role what it needs.
CREATE ROLE snapdex_reader NOLOGIN;
CREATE ROLE snapdex_publisher NOLOGIN;
CREATE ROLE snapdex_writer NOLOGIN;
