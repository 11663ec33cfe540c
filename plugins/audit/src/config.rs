//! The stage's `with` table.

use std::collections::BTreeMap;

use jiff::civil::Date;
use rustsec::advisory::Id;
use semver::VersionReq;
use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Problem, WorkspacePath, schemars};

/// What to audit, against what, and what to do about it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "database": "https://github.com/rustsec/advisory-db/archive/refs/heads/main.tar.gz" }))]
pub struct Config {
    /// The lock file.
    #[serde(default = "default_lockfile")]
    pub(crate) lockfile: WorkspacePath,
    /// The RustSec advisory database: `path:FOLDER` in the workspace, or `https://….tar.gz`.
    pub(crate) database: Location,
    /// Whether the stage fails when the database or the index can't be reached.
    #[serde(default)]
    pub(crate) unreachable: Unreachable,
    /// Advisories that don't fail the stage.
    #[serde(default)]
    pub(crate) ignore: Vec<Ignore>,
    /// Also fail on informational advisories: unmaintained crates, unsound crates, notices.
    #[serde(default)]
    pub(crate) deny_warnings: bool,
    /// Whether a version that was yanked from crates.io fails the stage.
    #[serde(default)]
    pub(crate) yanked: Yanked,
    /// The sparse index to look up yanked versions in.
    #[serde(default = "default_index")]
    pub(crate) index: String,
    /// The allowed sources of crates. Default: any.
    pub(crate) sources: Option<Sources>,
    /// The allowed licences of crates. Default: any.
    pub(crate) licenses: Option<Licenses>,
    /// Denied crates.
    #[serde(default)]
    pub(crate) deny_crates: Vec<DenyCrate>,
}

/// Where the advisory database is: the key `database`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub(crate) enum Location {
    /// A folder of the workspace in RustSec's layout.
    Folder(WorkspacePath),
    /// A `.tar.gz` behind HTTP.
    Tarball(String),
}

impl TryFrom<String> for Location {
    type Error = String;

    fn try_from(text: String) -> Result<Location, String> {
        if let Some(folder) = text.strip_prefix("path:") {
            return match folder.trim_end_matches('/') {
                "" => Err(format!("`{text}` has no folder; write `path:FOLDER`, as in `path:advisories`")),
                folder => WorkspacePath::parse(folder).map(Location::Folder),
            };
        }
        let http = text.starts_with("https://") || text.starts_with("http://");
        if http && (text.ends_with(".tar.gz") || text.ends_with(".tgz")) {
            return Ok(Location::Tarball(text));
        }
        Err(format!("`{text}` is neither `path:FOLDER` nor `https://….tar.gz`"))
    }
}

/// The key `unreachable`: the effect of a database or an index that can't be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unreachable {
    /// Fails the stage: a check that couldn't be made doesn't count as passed.
    #[default]
    Error,
    /// Reports a warning, and sets the output `complete` to false.
    Warn,
}

/// The key `yanked`: the effect of a yanked version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Yanked {
    /// Fails the stage.
    Error,
    /// Reports a warning.
    #[default]
    Warn,
    /// Doesn't query the index.
    Off,
}

/// An advisory that doesn't fail the stage.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Ignore {
    /// As in `RUSTSEC-2024-0001`.
    #[schemars(with = "String")]
    pub(crate) id: Id,
    /// Why it is acceptable for now.
    pub(crate) reason: String,
    /// The last day on which it is ignored, in UTC, as in `2027-01-31`.
    #[schemars(with = "Option<String>")]
    pub(crate) expires: Option<Date>,
}

/// Where crates may come from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Sources {
    /// `crates-io`, or how a source in the lock file begins, as in `git+https://github.com/acme/`.
    pub(crate) allow: Vec<String>,
}

/// Under which licences crates may be used.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Licenses {
    /// SPDX identifiers, as in `MIT` or `Apache-2.0 WITH LLVM-exception`.
    pub(crate) allow: Vec<String>,
    /// A folder of vendored crates, as `cargo vendor` writes it. Without it, `cargo metadata` is run.
    pub(crate) manifests: Option<WorkspacePath>,
    /// Additional licences for single crates, by crate name.
    #[serde(default)]
    pub(crate) exceptions: BTreeMap<String, Vec<String>>,
}

/// A denied crate.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct DenyCrate {
    /// The crate's name.
    pub(crate) name: String,
    /// The denied versions, as in `<2`. Default: all.
    #[schemars(with = "Option<String>")]
    pub(crate) version: Option<VersionReq>,
    /// Why, and what to use instead.
    pub(crate) reason: String,
}

fn default_lockfile() -> WorkspacePath {
    WorkspacePath::fixed("Cargo.lock")
}

/// The sparse index that the Cargo book names for crates.io.
fn default_index() -> String {
    "https://index.crates.io".to_owned()
}

/// Mistakes that parsing doesn't catch.
pub(crate) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    for (index, Ignore { id, reason, .. }) in config.ignore.iter().enumerate() {
        if reason.trim().is_empty() {
            let message = format!("{id} is ignored without a reason; say why, so that others can judge it");
            found.push(Problem::at(format!("ignore[{index}].reason"), message));
        }
        if config.ignore[..index].iter().any(|earlier| earlier.id == *id) {
            let message = format!("{id} is ignored twice; keep one entry");
            found.push(Problem::at(format!("ignore[{index}].id"), message));
        }
    }
    for (index, deny) in config.deny_crates.iter().enumerate().filter(|(_, deny)| deny.reason.trim().is_empty()) {
        let message = format!("{} is denied without a reason; say what to use instead", deny.name);
        found.push(Problem::at(format!("deny-crates[{index}].reason"), message));
    }
    if let Some(licenses) = &config.licenses {
        let allowed = licenses.allow.iter().map(|id| ("allow".to_owned(), id));
        let exceptions = licenses.exceptions.iter();
        let exceptions =
            exceptions.flat_map(|(name, ids)| ids.iter().map(move |id| (format!("exceptions.{name}"), id)));
        for (key, id) in allowed.chain(exceptions) {
            if let Err(error) = spdx::Licensee::parse(id) {
                let message = format!("`{id}` isn't an SPDX licence identifier: {}", error.reason);
                found.push(Problem::at(format!("licenses.{key}"), message));
            }
        }
    }
    found
}
