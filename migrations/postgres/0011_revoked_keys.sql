-- Why a key is gone: 'revoked' where it must not be trusted any more.
ALTER TABLE signing_keys ADD COLUMN gone_because TEXT NOT NULL DEFAULT '';
