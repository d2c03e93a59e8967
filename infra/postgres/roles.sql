-- Run once by an administrator where the user of SNAPDEX_DATABASE_URL may not create roles. The next snapdex command
-- that migrates grants each role what it needs; for that, its user must be allowed to administer them, too:
-- GRANT snapdex_reader, snapdex_publisher, snapdex_writer TO user_of_snapdex WITH ADMIN OPTION;
CREATE ROLE snapdex_reader NOLOGIN;
CREATE ROLE snapdex_publisher NOLOGIN;
CREATE ROLE snapdex_writer NOLOGIN;
