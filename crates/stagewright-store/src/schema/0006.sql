-- Schema version 6 adds: what releases consist of.

ALTER TABLE releases ADD COLUMN parts TEXT NOT NULL DEFAULT '{}'; -- JSON: texts by name
