//! The stage's `with` table.

use database::{BackupSource, Owners, SCRATCH, Server, name_problems};
use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Problem, Requirement, WorkspacePath, schemars};

/// The backup to restore, and where.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "from": { "store": { "bucket": "backups", "prefix": "shop/", "credential": "s3" }, "identity": "age-key" },
    "database": "shop",
    "server": { "postgresql": { "host": "db.example.org", "user": "admin", "secret": "db-admin-password" } },
}))]
pub struct Config {
    /// The backup.
    pub(crate) from: BackupSource,
    /// The database whose data is replaced by the backup's.
    pub(crate) database: String,
    /// The database's server. The user has to be allowed to create databases, and to end sessions of others.
    pub(crate) server: Server,
    /// Queries of which each has to return true before the restored data takes the place of the other.
    #[serde(default)]
    #[schemars(extend("x-stagewright-code" = "text"))]
    pub(crate) checks: Vec<String>,
    /// A folder of the workspace for the backup on its way, which is removed at the end.
    #[serde(default = "default_scratch")]
    pub(crate) scratch: WorkspacePath,
}

fn default_scratch() -> WorkspacePath {
    WorkspacePath::fixed(SCRATCH)
}

impl Config {
    /// The name of the restored database, until it takes the place of the other one.
    pub(crate) fn restored(&self) -> String {
        format!("{}_restored", self.database)
    }

    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut found = self.from.problems("from");
        found.extend(self.server.postgresql().problems("server.postgresql"));
        found.extend(name_problems("database", &self.database));
        found
    }

    pub(crate) fn requirements(&self) -> Vec<Requirement> {
        let file = self.from.file(&self.scratch);
        let server = self.server.postgresql();
        let mut needed = server.requirements_to_restore(&self.restored(), &file, Owners::Restore);
        needed.extend(self.from.requirements(&self.scratch));
        needed.extend(self.from.store.requirement_to_read());
        needed
    }
}
