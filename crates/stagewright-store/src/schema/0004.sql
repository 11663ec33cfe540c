-- Schema version 4 adds signals: messages that end the waits of plugins.

-- Signals for the process that drives the run or will resume it; deleted once an event records them, or the run has ended.
CREATE TABLE signals (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- also the number in the event
    run    TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    signal TEXT NOT NULL                      -- JSON of a Signal, without its number
);

CREATE INDEX signals_by_run ON signals (run);
