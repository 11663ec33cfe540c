//! The stage's `with` table.

use database::{Recipients, SCRATCH, Scratch, Server, Store, name_problems};
use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Problem, Requirement, WorkspacePath, schemars};

/// The file of the dump, in the scratch folder.
pub(crate) const DUMP: &str = "dump";
/// The file of the encrypted dump.
pub(crate) const ENCRYPTED: &str = "dump.age";

/// What to back up, and where to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({
    "server": { "postgresql": { "host": "db.example.org", "user": "backup", "secret": "db-password" } },
    "database": "shop",
    "encrypt": ["age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq"],
    "to": [{ "bucket": "backups", "prefix": "shop/", "credential": "s3", "keep": { "daily": 7, "weekly": 4, "monthly": 12 } }],
}))]
pub struct Config {
    /// The server, by what it is.
    pub(crate) server: Server,
    /// The database.
    pub(crate) database: String,
    /// The places of the backup. Each gets all of it, and has its own rules for what is kept.
    pub(crate) to: Vec<Store>,
    /// The public keys of age that the backup is encrypted to, by the program `age`. Default: it isn't encrypted.
    #[serde(default)]
    pub(crate) encrypt: Recipients,
    /// A folder of the workspace for the dump on its way, which is removed at the end.
    #[serde(default = "default_scratch")]
    pub(crate) scratch: WorkspacePath,
}

fn default_scratch() -> WorkspacePath {
    WorkspacePath::fixed(SCRATCH)
}

impl Config {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut found = self.server.postgresql().problems("server.postgresql");
        found.extend(name_problems("database", &self.database));
        found.extend(self.encrypt.problems("encrypt"));
        if self.to.is_empty() {
            found.push(Problem::at("to", "names no place").help("add one, as in { folder = \"backups\" }"));
        }
        found
            .extend((0..).zip(&self.to).flat_map(|(index, store): (usize, _)| store.problems(&format!("to[{index}]"))));
        found
    }

    pub(crate) fn requirements(&self) -> Vec<Requirement> {
        let path = |name: &str| format!("{}/{name}", self.scratch.trim_end_matches('/'));
        let mut needed = self.server.postgresql().requirements_to_dump(&self.database);
        needed.push(Scratch::requirement(&self.scratch));
        needed.extend(self.encrypt.requirement(&path(DUMP), &path(ENCRYPTED)));
        needed.extend(self.to.iter().filter_map(Store::requirement_to_write));
        needed
    }
}
