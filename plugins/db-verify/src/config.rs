//! The stage's `with` table.

use database::{BackupSource, Owners, SCRATCH, Server, name_problems};
use serde::Deserialize;
use stagewright_sdk::{DurationText, JsonSchema, Problem, Requirement, WorkspacePath, schemars};

/// The backup to verify, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "from": { "store": { "bucket": "backups", "prefix": "shop/", "credential": "s3" }, "identity": "age-key" },
    "database": "shop",
    "server": { "postgresql": { "host": "scratch.example.org", "user": "verify", "secret": "scratch-password" } },
    "checks": ["SELECT count(*) > 0 FROM orders"],
    "recovery-time-goal": "4h",
    "recovery-point-goal": "1h",
}))]
pub struct Config {
    /// The backup.
    pub(crate) from: BackupSource,
    /// The database whose backup it is.
    pub(crate) database: String,
    /// The server for the scratch database, which is better not the one that serves. The user has to be allowed to create
    /// databases.
    pub(crate) server: Server,
    /// The name of the scratch database, which is created and removed. Default: `DATABASE_verify`.
    scratch_database: Option<String>,
    /// Queries of which each has to return true.
    #[serde(default)]
    #[schemars(extend("x-stagewright-code" = "text"))]
    pub(crate) checks: Vec<String>,
    /// How long a restore may take until the data can be used (RTO).
    pub(crate) recovery_time_goal: Option<DurationText>,
    /// How old the data may be (RPO).
    pub(crate) recovery_point_goal: Option<DurationText>,
    /// Whether the backup's record gets a note that it was verified.
    #[serde(default = "default_note")]
    pub(crate) note: bool,
    /// A folder of the workspace for the backup on its way, which is removed at the end.
    #[serde(default = "default_scratch")]
    pub(crate) scratch: WorkspacePath,
}

fn default_note() -> bool {
    true
}

fn default_scratch() -> WorkspacePath {
    WorkspacePath::fixed(SCRATCH)
}

impl Config {
    pub(crate) fn scratch_database(&self) -> String {
        self.scratch_database.clone().unwrap_or_else(|| format!("{}_verify", self.database))
    }

    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut found = self.from.problems("from");
        found.extend(self.server.postgresql().problems("server.postgresql"));
        found.extend(name_problems("database", &self.database));
        found.extend(name_problems("scratch-database", &self.scratch_database()));
        if self.scratch_database() == self.database {
            let help = "use another name: the scratch database is removed";
            found.push(Problem::at("scratch-database", "is the database itself").help(help));
        }
        found
    }

    pub(crate) fn requirements(&self) -> Vec<Requirement> {
        let file = self.from.file(&self.scratch);
        let server = self.server.postgresql();
        let mut needed = server.requirements_to_restore(&self.scratch_database(), &file, Owners::LeaveOut);
        needed.extend(self.from.requirements(&self.scratch));
        needed.extend(match self.note {
            true => self.from.store.requirement_to_write(),
            false => self.from.store.requirement_to_read(),
        });
        needed
    }
}
