-- The earliest and the latest time of each 1,024 places of the audit log, to find a stretch of time by place.
CREATE TABLE audit_times (
    block    BIGINT PRIMARY KEY,
    earliest BIGINT NOT NULL,
    latest   BIGINT NOT NULL
);
