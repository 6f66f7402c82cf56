-- The scopes that a token's requests have needed, and since when that is noted. Of a token from before nothing is known
-- of the time until now.
ALTER TABLE tokens ADD COLUMN used_scopes TEXT NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN watched_since INTEGER NOT NULL DEFAULT 0;
UPDATE tokens SET watched_since = CAST(unixepoch('subsec') * 1000 AS INTEGER);
