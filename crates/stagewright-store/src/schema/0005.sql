-- Schema version 5 adds rollouts: deploys that give a new version its requests step by step.

-- The last rollout of each environment. It outlives its run: as long as it is open, no other run may deploy there.
CREATE TABLE rollouts (
    environment TEXT NOT NULL,                -- environments.name
    rehearsal   INTEGER NOT NULL,
    run         TEXT NOT NULL,
    stage       INTEGER NOT NULL,
    stage_id    TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    rollout     TEXT NOT NULL,                -- JSON of a Rollout
    open        INTEGER NOT NULL,             -- its phase is not final
    PRIMARY KEY (environment, rehearsal)
) WITHOUT ROWID;
