-- Moments are UTC milliseconds, digests and hashes 32 bytes, sets sorted text separated by spaces.
-- Every table has the same columns on PostgreSQL; a test compares them.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE people (
    id             TEXT PRIMARY KEY,
    issuer         TEXT NOT NULL,
    subject        TEXT NOT NULL,
    email          TEXT,
    email_verified INTEGER NOT NULL,
    name           TEXT,
    first_seen_at  INTEGER NOT NULL,
    last_seen_at   INTEGER NOT NULL,
    UNIQUE (issuer, subject)
) STRICT;

CREATE TABLE sessions (
    id            TEXT PRIMARY KEY,
    digest        BLOB NOT NULL UNIQUE,
    person        TEXT NOT NULL REFERENCES people (id),
    provider      TEXT NOT NULL,
    issuer        TEXT NOT NULL,
    provider_sid  TEXT,
    role          TEXT NOT NULL,
    scopes        TEXT NOT NULL,
    rule          TEXT NOT NULL,
    signed_in_at  INTEGER NOT NULL,
    proven_at     INTEGER NOT NULL,
    last_seen_at  INTEGER NOT NULL,
    ended_at      INTEGER,
    claims_at     INTEGER NOT NULL,
    refresh_until INTEGER NOT NULL,
    sealed        BLOB,
    ip            TEXT,
    user_agent    TEXT
) STRICT;
CREATE INDEX sessions_of_person ON sessions (person, ended_at);
CREATE INDEX sessions_of_provider ON sessions (issuer, provider_sid);

CREATE TABLE tokens (
    id              TEXT PRIMARY KEY,
    digest          BLOB NOT NULL UNIQUE,
    name            TEXT NOT NULL,
    owner           TEXT NOT NULL,
    owner_name      TEXT NOT NULL,
    scopes          TEXT NOT NULL,
    role            TEXT,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER,
    revoked_at      INTEGER,
    replaced_by     TEXT,
    expiry_noted_at INTEGER,
    last_used_at    INTEGER,
    last_used_from  TEXT
) STRICT;
CREATE INDEX tokens_of_owner ON tokens (owner, name);
CREATE INDEX tokens_by_age ON tokens (created_at, id);
CREATE INDEX tokens_to_expire ON tokens (expires_at) WHERE revoked_at IS NULL AND expiry_noted_at IS NULL;

CREATE TABLE audit (
    seq           INTEGER PRIMARY KEY,
    time          INTEGER NOT NULL,
    event         TEXT NOT NULL,
    level         TEXT NOT NULL,
    actor_kind    TEXT NOT NULL,
    actor_id      TEXT NOT NULL,
    actor_name    TEXT NOT NULL,
    resource_kind TEXT NOT NULL,
    resource_id   TEXT NOT NULL,
    outcome       TEXT NOT NULL,
    reason        TEXT NOT NULL,
    request_id    TEXT,
    ip            TEXT,
    user_agent    TEXT,
    node          TEXT NOT NULL,
    details       TEXT NOT NULL,
    prev_hash     BLOB NOT NULL,
    hash          BLOB NOT NULL
) STRICT;
CREATE INDEX audit_by_event ON audit (event, seq);
CREATE INDEX audit_by_actor ON audit (actor_id, seq);
CREATE INDEX audit_by_time ON audit (time);

-- The log is append-only for everybody who comes through SQL.
CREATE TRIGGER audit_is_not_edited BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
-- REPLACE deletes without the trigger below.
CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

-- Identifiers that may be used one single time, until they expire.
CREATE TABLE once (
    kind       TEXT NOT NULL,
    id         TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;
CREATE INDEX once_by_expiry ON once (expires_at);
