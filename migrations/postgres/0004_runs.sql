-- A run and what is known of its process. `turn` counts the runs in the order in which they were asked for. `state` is what is wanted as soon as somebody wants it: the process follows.
-- `log_bytes` is how much of the process's output was taken over, so that no line is taken twice.
CREATE TABLE runs (
    id              TEXT PRIMARY KEY,
    turn            BIGINT NOT NULL UNIQUE,
    state           TEXT NOT NULL,
    node            TEXT NOT NULL,
    source          TEXT,
    provider        TEXT,
    config          TEXT,
    request_id      TEXT,
    replay_of       TEXT,
    created_by      TEXT NOT NULL,
    created_by_name TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    started_at      BIGINT,
    stop_asked_at   BIGINT,
    ended_at        BIGINT,
    pid             BIGINT,
    exit_code       BIGINT,
    reason          TEXT NOT NULL,
    token           TEXT,
    log_lines       BIGINT NOT NULL,
    log_bytes       BIGINT NOT NULL,
    phase           TEXT,
    iteration       BIGINT,
    complexity      TEXT,
    mode            TEXT,
    current_task    TEXT
);
CREATE INDEX runs_by_state ON runs (state, turn);
CREATE INDEX runs_by_end ON runs (ended_at);
CREATE UNIQUE INDEX runs_by_request ON runs (created_by, request_id);

-- Apart from the runs, which lists read.
CREATE TABLE run_inputs (
    run  TEXT PRIMARY KEY,
    text TEXT NOT NULL
);

-- `pos` counts over all runs in the order of commits, so that whoever follows can resume at a place.
CREATE TABLE run_lines (
    pos    BIGINT PRIMARY KEY,
    run    TEXT NOT NULL,
    n      BIGINT NOT NULL,
    time   BIGINT NOT NULL,
    stream TEXT NOT NULL,
    text   TEXT NOT NULL
);
CREATE UNIQUE INDEX run_lines_of_run ON run_lines (run, n);

-- What happened to a run, for those who may not read the audit log.
CREATE TABLE run_steps (
    run        TEXT NOT NULL,
    n          BIGINT NOT NULL,
    time       BIGINT NOT NULL,
    state      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    PRIMARY KEY (run, n)
);
