-- What is signed about the audit log. `jws` is the statement with its signature; the other columns are for finding it.
CREATE TABLE audit_checkpoints (
    seq  BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    time BIGINT NOT NULL,
    kid  TEXT NOT NULL,
    jws  TEXT NOT NULL,
    PRIMARY KEY (seq, hash)
);

-- Stretches that retention took out.
CREATE TABLE audit_tombstones (
    first_seq  BIGINT PRIMARY KEY,
    last_seq   BIGINT NOT NULL,
    prev_hash  BYTEA NOT NULL,
    first_hash BYTEA NOT NULL,
    last_hash  BYTEA NOT NULL,
    jws        TEXT NOT NULL
);

-- Public keys that signed any of this, also after they left the key set.
CREATE TABLE audit_keys (
    kid           TEXT PRIMARY KEY,
    jwk           TEXT NOT NULL,
    first_used_at BIGINT NOT NULL
);

-- How far each sink has been told.
CREATE TABLE audit_sinks (
    name TEXT PRIMARY KEY,
    seq  BIGINT NOT NULL
);

-- An entry goes only when a tombstone stands for it.
DROP TRIGGER audit_is_not_edited ON audit;
CREATE TRIGGER audit_is_not_edited BEFORE UPDATE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE FUNCTION audit_entry_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF COALESCE((SELECT last_seq FROM audit_tombstones WHERE first_seq <= OLD.seq ORDER BY first_seq DESC LIMIT 1) < OLD.seq, true) THEN
        RAISE EXCEPTION 'the audit log is append-only';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_entry_is_kept();

-- A filter names an actor by id or by name; each needs its index, or a rare name reads the whole log.
CREATE INDEX audit_by_actor_name ON audit (actor_name, seq);
