-- Groups as a JSON array of texts: a name may hold spaces.
ALTER TABLE sessions ADD COLUMN group_names TEXT NOT NULL DEFAULT '[]';
-- The digest of the cookie that other apps of the same parent domain see; it opens no door of lokid itself.
ALTER TABLE sessions ADD COLUMN door_digest BYTEA;
CREATE UNIQUE INDEX sessions_by_door ON sessions (door_digest);

ALTER TABLE people ADD COLUMN username TEXT;

-- Every signing key that was ever published, and when it took which step. `sealed` holds those that lokid keeps itself.
CREATE TABLE signing_keys (
    kid        TEXT PRIMARY KEY,
    alg        TEXT NOT NULL,
    sealed     BYTEA,
    added_at   BIGINT NOT NULL,
    active_at  BIGINT,
    retired_at BIGINT,
    gone_at    BIGINT
);
