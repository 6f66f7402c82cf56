-- The nodes that work on this database. `keys` are the names of the signing keys that a node publishes, separated by spaces;
-- the first signs. `beats` grows while it lives.
CREATE TABLE nodes (
    name       TEXT PRIMARY KEY,
    version    TEXT NOT NULL,
    keys       TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    beats      INTEGER NOT NULL
) STRICT;
