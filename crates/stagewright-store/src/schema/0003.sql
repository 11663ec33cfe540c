-- Schema version 3 keeps the texts of pipelines apart from the runs. Rows of a table without rowid are read whole, with
-- all the pages that they flow over to, whenever one of them is looked up: that was some dozen pages for each event.

CREATE TABLE pipeline_texts (
    run  TEXT PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    text TEXT NOT NULL                        -- the file as it was, for resuming
);

INSERT INTO pipeline_texts (run, text) SELECT id, pipeline_text FROM runs;
ALTER TABLE runs DROP COLUMN pipeline_text;
