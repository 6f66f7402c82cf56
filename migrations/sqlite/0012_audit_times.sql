-- The earliest and the latest time of each 1,024 places of the audit log, to find a stretch of time by place.
CREATE TABLE audit_times (
    block    INTEGER PRIMARY KEY,
    earliest INTEGER NOT NULL,
    latest   INTEGER NOT NULL
) STRICT;
