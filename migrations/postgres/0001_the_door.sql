-- Moments are UTC milliseconds, digests and hashes 32 bytes, sets sorted text separated by spaces.
-- Every table has the same columns on SQLite; a test compares them.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE people (
    id             TEXT PRIMARY KEY,
    issuer         TEXT NOT NULL,
    subject        TEXT NOT NULL,
    email          TEXT,
    email_verified BIGINT NOT NULL,
    name           TEXT,
    first_seen_at  BIGINT NOT NULL,
    last_seen_at   BIGINT NOT NULL,
    UNIQUE (issuer, subject)
);

CREATE TABLE sessions (
    id            TEXT PRIMARY KEY,
    digest        BYTEA NOT NULL UNIQUE,
    person        TEXT NOT NULL REFERENCES people (id),
    provider      TEXT NOT NULL,
    issuer        TEXT NOT NULL,
    provider_sid  TEXT,
    role          TEXT NOT NULL,
    scopes        TEXT NOT NULL,
    rule          TEXT NOT NULL,
    signed_in_at  BIGINT NOT NULL,
    proven_at     BIGINT NOT NULL,
    last_seen_at  BIGINT NOT NULL,
    ended_at      BIGINT,
    claims_at     BIGINT NOT NULL,
    refresh_until BIGINT NOT NULL,
    sealed        BYTEA,
    ip            TEXT,
    user_agent    TEXT
);
CREATE INDEX sessions_of_person ON sessions (person, ended_at);
CREATE INDEX sessions_of_provider ON sessions (issuer, provider_sid);

CREATE TABLE tokens (
    id              TEXT PRIMARY KEY,
    digest          BYTEA NOT NULL UNIQUE,
    name            TEXT NOT NULL,
    owner           TEXT NOT NULL,
    owner_name      TEXT NOT NULL,
    scopes          TEXT NOT NULL,
    role            TEXT,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT,
    revoked_at      BIGINT,
    replaced_by     TEXT,
    expiry_noted_at BIGINT,
    last_used_at    BIGINT,
    last_used_from  TEXT
);
CREATE INDEX tokens_of_owner ON tokens (owner, name);
CREATE INDEX tokens_by_age ON tokens (created_at, id);
CREATE INDEX tokens_to_expire ON tokens (expires_at) WHERE revoked_at IS NULL AND expiry_noted_at IS NULL;

CREATE TABLE audit (
    seq           BIGINT PRIMARY KEY,
    time          BIGINT NOT NULL,
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
    prev_hash     BYTEA NOT NULL,
    hash          BYTEA NOT NULL
);
CREATE INDEX audit_by_event ON audit (event, seq);
CREATE INDEX audit_by_actor ON audit (actor_id, seq);
CREATE INDEX audit_by_time ON audit (time);

-- The log is append-only for everybody who comes through SQL.
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END $$;
CREATE TRIGGER audit_is_not_edited BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

-- Identifiers that may be used one single time, until they expire.
CREATE TABLE once (
    kind       TEXT NOT NULL,
    id         TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX once_by_expiry ON once (expires_at);
