//! The stage's `with` table.

use database::{Server, name_problems};
use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Problem, Requirement, WorkspacePath, schemars};

/// The migrations, and the database.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "server": { "postgresql": { "host": "db.example.org", "user": "shop", "secret": "db-password" } },
    "database": "shop",
    "files": "migrations/*.sql",
}))]
pub struct Config {
    /// The server, by what it is.
    pub(crate) server: Server,
    /// The database.
    pub(crate) database: String,
    /// The migrations, as a glob: files of SQL whose names begin with their numbers, as in `0001_orders.sql`.
    pub(crate) files: WorkspacePath,
    /// Files of SQL with data for tests and trials, as a glob. Each is carried out once, after the migrations. A protected
    /// environment refuses them.
    pub(crate) seeds: Option<WorkspacePath>,
}

impl Config {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut found = self.server.postgresql().problems("server.postgresql");
        found.extend(name_problems("database", &self.database));
        found
    }

    pub(crate) fn requirements(&self) -> Vec<Requirement> {
        let mut needed = self.server.postgresql().requirements_of_scripts(&self.database, "migrates the database");
        let files = [Some(&self.files), self.seeds.as_ref()].into_iter().flatten();
        needed.extend(files.map(|files| Requirement::read(files.as_str()).because("is carried out")));
        needed
    }
}
