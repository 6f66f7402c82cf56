-- What our authority issued, and client certificates of it that were revoked. `sealed` holds the private key while the
-- certificate may be handed out again.
CREATE TABLE certificates (
    id             TEXT PRIMARY KEY,
    serial         TEXT NOT NULL,
    fingerprint    BLOB NOT NULL,
    issuer         BLOB NOT NULL,
    purpose        TEXT NOT NULL,
    subject        TEXT NOT NULL,
    pem            TEXT NOT NULL,
    sealed         BLOB,
    not_before     INTEGER NOT NULL,
    not_after      INTEGER NOT NULL,
    issued_at      INTEGER NOT NULL,
    issued_to      TEXT NOT NULL,
    issued_to_name TEXT NOT NULL,
    revoked_at     INTEGER
) STRICT;
CREATE UNIQUE INDEX certificates_by_serial ON certificates (issuer, serial);
CREATE INDEX certificates_of_subject ON certificates (subject, issued_at);
CREATE INDEX certificates_by_time ON certificates (issued_at, id);
CREATE INDEX certificates_revoked ON certificates (not_after) WHERE revoked_at IS NOT NULL;
