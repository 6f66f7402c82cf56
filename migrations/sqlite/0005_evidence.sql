-- What is signed about the audit log. `jws` is the statement with its signature; the other columns are for finding it.
CREATE TABLE audit_checkpoints (
    seq  INTEGER NOT NULL,
    hash BLOB NOT NULL,
    time INTEGER NOT NULL,
    kid  TEXT NOT NULL,
    jws  TEXT NOT NULL,
    PRIMARY KEY (seq, hash)
) STRICT;

-- Stretches that retention took out.
CREATE TABLE audit_tombstones (
    first_seq  INTEGER PRIMARY KEY,
    last_seq   INTEGER NOT NULL,
    prev_hash  BLOB NOT NULL,
    first_hash BLOB NOT NULL,
    last_hash  BLOB NOT NULL,
    jws        TEXT NOT NULL
) STRICT;

-- Public keys that signed any of this, also after they left the key set.
CREATE TABLE audit_keys (
    kid           TEXT PRIMARY KEY,
    jwk           TEXT NOT NULL,
    first_used_at INTEGER NOT NULL
) STRICT;

-- How far each sink has been told.
CREATE TABLE audit_sinks (
    name TEXT PRIMARY KEY,
    seq  INTEGER NOT NULL
) STRICT;

-- An entry goes only when a tombstone stands for it.
DROP TRIGGER audit_is_not_deleted;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
    WHEN COALESCE((SELECT last_seq FROM audit_tombstones WHERE first_seq <= OLD.seq ORDER BY first_seq DESC LIMIT 1) < OLD.seq, 1)
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

-- A filter names an actor by id or by name; each needs its index, or a rare name reads the whole log.
CREATE INDEX audit_by_actor_name ON audit (actor_name, seq);
