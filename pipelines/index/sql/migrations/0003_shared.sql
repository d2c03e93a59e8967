ALTER TABLE snapdex.version ADD COLUMN gate jsonb;
