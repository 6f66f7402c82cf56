-- A run and what is known of its process. `turn` counts the runs in the order in which they were asked for. `state` is what is wanted as soon as somebody wants it: the process follows.
-- `log_bytes` is how much of the process's output was taken over, so that no line is taken twice.
CREATE TABLE runs (
    id              TEXT PRIMARY KEY,
    turn            INTEGER NOT NULL UNIQUE,
    state           TEXT NOT NULL,
    node            TEXT NOT NULL,
    source          TEXT,
    provider        TEXT,
    config          TEXT,
    request_id      TEXT,
    replay_of       TEXT,
    created_by      TEXT NOT NULL,
    created_by_name TEXT NOT NULL,
    created_at      INTEGER NOT NULL,
    started_at      INTEGER,
    stop_asked_at   INTEGER,
    ended_at        INTEGER,
    pid             INTEGER,
    exit_code       INTEGER,
    reason          TEXT NOT NULL,
    token           TEXT,
    log_lines       INTEGER NOT NULL,
    log_bytes       INTEGER NOT NULL,
    phase           TEXT,
    iteration       INTEGER,
    complexity      TEXT,
    mode            TEXT,
    current_task    TEXT
) STRICT;
CREATE INDEX runs_by_state ON runs (state, turn);
CREATE INDEX runs_by_end ON runs (ended_at);
CREATE UNIQUE INDEX runs_by_request ON runs (created_by, request_id);

-- Apart from the runs, which lists read.
CREATE TABLE run_inputs (
    run  TEXT PRIMARY KEY,
    text TEXT NOT NULL
) STRICT;

-- `pos` counts over all runs in the order of commits, so that whoever follows can resume at a place.
CREATE TABLE run_lines (
    pos    INTEGER PRIMARY KEY,
    run    TEXT NOT NULL,
    n      INTEGER NOT NULL,
    time   INTEGER NOT NULL,
    stream TEXT NOT NULL,
    text   TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX run_lines_of_run ON run_lines (run, n);

-- What happened to a run, for those who may not read the audit log.
CREATE TABLE run_steps (
    run        TEXT NOT NULL,
    n          INTEGER NOT NULL,
    time       INTEGER NOT NULL,
    state      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    PRIMARY KEY (run, n)
) STRICT;
