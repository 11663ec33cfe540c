//! The scripts for a database, and what they print.

use database::text;
use serde::Deserialize;
use stagewright_sdk::{Error, Position, Result};

use crate::migration::Migration;

/// Prints what the database has been through; nothing for one that was never migrated.
pub(crate) const ASK: &str = "\
SELECT to_regclass('stagewright.migrations') IS NOT NULL AS is_known \\gset
\\if :is_known
SELECT json_build_object('name', name, 'digest', digest, 'compatible', compatible, 'finished', finished, 'run', run) \
FROM stagewright.migrations ORDER BY applied, name;
\\endif
";

/// Takes the lock, which the session keeps, and makes the tables.
const BEGIN: &str = "\
SET lock_timeout = '60s';
SELECT pg_advisory_lock(hashtext('stagewright.migrations'));
RESET lock_timeout;
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS stagewright;
CREATE TABLE IF NOT EXISTS stagewright.migrations (name text PRIMARY KEY, digest text NOT NULL, compatible boolean NOT NULL, \
finished boolean NOT NULL, run text NOT NULL, applied timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE IF NOT EXISTS stagewright.fence (one boolean PRIMARY KEY DEFAULT true CHECK (one), token bigint NOT NULL, \
run text NOT NULL);
RESET client_min_messages;
";

/// A migration that the database has been through.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Applied {
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) compatible: bool,
    /// False for one without a transaction that was interrupted.
    pub(crate) finished: bool,
    /// The run that carried it out.
    pub(crate) run: String,
}

/// Reads what [`ASK`] prints.
pub(crate) fn applied(output: &str) -> Result<Vec<Applied>> {
    let lines = output.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).map_err(Error::from)).collect()
}

/// A script, and which of its lines are whose.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) text: String,
    /// The first line of each file in the script, from 1.
    files: Vec<(u32, String)>,
}

impl Script {
    /// Carries out the migrations in turn. `token`: that of the environment, which a newer run has raised.
    pub(crate) fn new(pending: &[&Migration], token: u64, run: &str) -> Script {
        let mut script = Script::default();
        script.push(BEGIN);
        script.push(&format!(
            "DO $do$ BEGIN IF (SELECT token FROM stagewright.fence) > {token} THEN \
             RAISE EXCEPTION 'a newer run has migrated this database'; END IF; END $do$;\n\
             INSERT INTO stagewright.fence (token, run) VALUES ({token}, {run}) \
             ON CONFLICT (one) DO UPDATE SET token = excluded.token, run = excluded.run;\n",
            run = text(run),
        ));
        for migration in pending {
            script.push_migration(migration, run);
        }
        script
    }

    fn push_migration(&mut self, migration: &Migration, run: &str) {
        let name = text(&migration.name);
        let insert = |finished: bool| {
            format!(
                "INSERT INTO stagewright.migrations (name, digest, compatible, finished, run) VALUES ({name}, {}, {}, {finished}, \
                 {});\n",
                text(&migration.digest),
                migration.compatible,
                text(run),
            )
        };
        let (before, after) = match migration.transaction {
            true => (
                "BEGIN;\nSELECT set_config('stagewright.transaction', pg_current_xact_id()::text, true);\n".to_owned(),
                format!(
                    "DO $do$ BEGIN IF current_setting('stagewright.transaction', true) IS DISTINCT FROM \
                     pg_current_xact_id()::text THEN RAISE EXCEPTION 'the migration ends its transaction itself'; END IF; \
                     END $do$;\n{}COMMIT;\n",
                    insert(true)
                ),
            ),
            false => {
                (insert(false), format!("UPDATE stagewright.migrations SET finished = true WHERE name = {name};\n"))
            }
        };
        self.push(&before);
        self.files.push((self.next_line(), migration.path.clone()));
        self.push(&format!("{}\n;\n", migration.text));
        self.push(&after);
        // Settings of one file aren't those of the next.
        self.push(&format!("RESET ALL;\nSELECT json_build_object('carried-out', {name});\n"));
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn next_line(&self) -> u32 {
        u32::try_from(self.text.matches('\n').count()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// The file and line of the first error that psql has named, as in `psql:<stdin>:12: ERROR:  …`.
    pub(crate) fn place_of(&self, said: &str) -> Option<(String, Position)> {
        let (_, rest) = said.split_once("psql:<stdin>:")?;
        let line: u32 = rest.split(':').next()?.parse().ok()?;
        let (first, path) = self.files.iter().rev().find(|(first, _)| *first <= line)?;
        Some((path.clone(), Position::line(line - first + 1)))
    }
}

/// The names of the files that were carried out.
pub(crate) fn carried_out(output: &str) -> Vec<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Line {
        carried_out: String,
    }
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines.map(|line| line.carried_out).collect()
}
