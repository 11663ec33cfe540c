-- Schema version 2 adds: the order of runs, environments with their fences, holders and freezes, the ledger of
-- releases, concurrency groups, and requests to end a run.
--
-- Times are milliseconds since the Unix epoch; nothing is put in order by them. `rehearsal` keeps apart what rehearsals
-- and other runs have under the same name.

ALTER TABLE runs ADD COLUMN number INTEGER NOT NULL DEFAULT 0; -- 1, 2, 3 … in the order of creation

UPDATE runs SET number = place
    FROM (SELECT id AS run, row_number() OVER (ORDER BY started, id) AS place FROM runs) WHERE id = run;

CREATE UNIQUE INDEX runs_by_number ON runs (number);
CREATE INDEX runs_by_pipeline ON runs (pipeline, rehearsal, number, ended);
DROP INDEX runs_by_start;

-- run: the last number that was given, so that none is given twice, whatever is removed. sync: changed where a commit
-- is wanted for its own sake.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    last INTEGER NOT NULL
) WITHOUT ROWID;

INSERT INTO counters (name, last) SELECT 'run', count(*) FROM runs UNION ALL SELECT 'sync', 0;

-- Who may act on an environment. A row is never removed: its fence must not start again.
CREATE TABLE environments (
    name          TEXT NOT NULL,
    rehearsal     INTEGER NOT NULL,
    fence         INTEGER NOT NULL DEFAULT 0, -- the last token that was given
    last_number   INTEGER NOT NULL DEFAULT 0, -- of the newest run that was given one
    last_run      TEXT,                       -- its id
    holder        TEXT,                       -- the run that has the environment
    beat          INTEGER,                    -- when the holder last said that it is alive
    -- What somebody said with `stagewright freeze`; no reason, no freeze.
    freeze_from   INTEGER,
    freeze_until  INTEGER,                    -- NULL: until it is lifted
    freeze_reason TEXT,
    freeze_by     TEXT,
    PRIMARY KEY (name, rehearsal)
) WITHOUT ROWID;

-- The ledger follows from the events, and outlives the runs it tells of.
CREATE TABLE releases (
    number      INTEGER PRIMARY KEY AUTOINCREMENT, -- newer ones have higher numbers
    environment TEXT NOT NULL,
    rehearsal   INTEGER NOT NULL,
    run         TEXT NOT NULL,
    stage       INTEGER NOT NULL,
    stage_id    TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    artifact    TEXT NOT NULL,
    url         TEXT,
    fence       INTEGER NOT NULL,
    config      TEXT NOT NULL,                     -- JSON
    commit_id   TEXT NOT NULL,
    started_by  TEXT NOT NULL,
    way         TEXT NOT NULL,                     -- deploy, rollback or undo
    confirmed   INTEGER NOT NULL DEFAULT 0,        -- it proved good
    undone      INTEGER NOT NULL DEFAULT 0         -- it was taken back, and no longer stands
);

CREATE INDEX releases_by_environment ON releases (environment, rehearsal, number);
CREATE INDEX releases_by_run ON releases (run, stage, attempt);

-- The runs of a concurrency group: the one that has it, and those that wait in the order of their numbers.
CREATE TABLE group_members (
    name      TEXT NOT NULL,
    rehearsal INTEGER NOT NULL,
    number    INTEGER NOT NULL,               -- runs.number
    run       TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    active    INTEGER NOT NULL,               -- it has the group
    asked     INTEGER NOT NULL,               -- it was asked to end; if it waits, its turn never comes
    replaced  TEXT NOT NULL,                  -- JSON array of runs that were asked to end because of it
    PRIMARY KEY (name, rehearsal, number)
) WITHOUT ROWID;

CREATE UNIQUE INDEX one_active_member ON group_members (name, rehearsal) WHERE active;
CREATE INDEX group_members_by_run ON group_members (run);

-- Requests to end a run, for the process that drives it; gone once the run has ended.
CREATE TABLE cancels (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run    TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    reason TEXT NOT NULL
);

CREATE INDEX cancels_by_run ON cancels (run);
