ALTER TABLE snapdex.version ADD COLUMN calibration jsonb;
COMMENT ON COLUMN snapdex.version.calibration IS 'What was learned on a golden set before the version was published.';
