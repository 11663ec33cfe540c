-- Times are milliseconds since the Unix epoch.

CREATE TABLE runs (
    id            TEXT PRIMARY KEY,
    pipeline      TEXT NOT NULL,
    file          TEXT NOT NULL,
    pipeline_text TEXT NOT NULL,              -- the file as it was, for resuming
    started       INTEGER NOT NULL,
    rehearsal     INTEGER NOT NULL,
    inputs        TEXT NOT NULL,              -- JSON object
    source        TEXT NOT NULL,              -- JSON: the git and event objects
    -- The rest follows from the events, and is kept for listing.
    ended         INTEGER,
    conclusion    TEXT,
    suspended     INTEGER NOT NULL DEFAULT 0, -- only gates are left
    failed_stage  TEXT                        -- id of the first that failed
) WITHOUT ROWID;

CREATE INDEX runs_by_start ON runs (started);

CREATE TABLE events (
    run  TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq  INTEGER NOT NULL,
    at   INTEGER NOT NULL,
    kind TEXT NOT NULL,                       -- JSON of an EventKind
    PRIMARY KEY (run, seq)
) WITHOUT ROWID;

CREATE TABLE open_gates (
    run   TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    stage INTEGER NOT NULL,
    id    TEXT NOT NULL,                      -- the stage's id
    at    INTEGER NOT NULL,
    gate  TEXT NOT NULL,                      -- JSON of a Gate
    PRIMARY KEY (run, stage)
) WITHOUT ROWID;

-- Answers that wait for the process that drives the run; gone once the journal has them.
CREATE TABLE decisions (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    run      TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    stage    INTEGER NOT NULL,
    decision TEXT NOT NULL                    -- JSON of a Decision
);

CREATE INDEX decisions_by_run ON decisions (run);
