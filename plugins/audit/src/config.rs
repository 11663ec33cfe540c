//! The stage's `with` table.

use std::collections::BTreeMap;

use jiff::civil::Date;
use rustsec::advisory::Id;
use semver::VersionReq;
use serde::Deserialize;
use stagewright_sdk::{JsonSchema, WorkspacePath};

/// What to audit, against what, and what to do about it.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The lock file.
    #[serde(default = "default_lockfile")]
    pub(crate) lockfile: WorkspacePath,
    /// RustSec's advisories: `path:FOLDER` in the workspace, or `https://….tar.gz`.
    pub(crate) database: Location,
    /// What it means when the database or the index doesn't answer.
    #[serde(default)]
    pub(crate) unreachable: Unreachable,
    /// Advisories that are known and accepted for now.
    #[serde(default)]
    pub(crate) ignore: Vec<Ignore>,
    /// Unmaintained and unsound crates, and notices, fail the stage too.
    #[serde(default)]
    pub(crate) deny_warnings: bool,
    /// What it means when a version was yanked from crates.io.
    #[serde(default)]
    pub(crate) yanked: Yanked,
    /// The sparse index that is asked what was yanked.
    #[serde(default = "default_index")]
    pub(crate) index: String,
    /// Where crates may come from; from anywhere unless given.
    pub(crate) sources: Option<Sources>,
    /// Under which licences crates may be used; under any unless given.
    pub(crate) licenses: Option<Licenses>,
    /// Crates that must not be used.
    #[serde(default)]
    pub(crate) deny_crates: Vec<DenyCrate>,
}

/// `database`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
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
                "" => Err(format!("`{text}` names no folder of the workspace; write `path:advisories`")),
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

/// `unreachable`: what it means when the database or the index doesn't answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unreachable {
    /// The stage fails: what could not be checked is not taken as good.
    #[default]
    Error,
    /// A warning that everybody sees.
    Warn,
}

/// `yanked`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Yanked {
    /// It fails the stage.
    Error,
    /// A warning.
    #[default]
    Warn,
    /// The index isn't asked.
    Off,
}

/// An advisory that is known, and why it may stay for now.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Ignore {
    /// As in `RUSTSEC-2024-0001`.
    #[schemars(with = "String")]
    pub(crate) id: Id,
    /// Why it may stay for now.
    pub(crate) reason: String,
    /// The last day on which it counts, UTC, as in `2027-01-31`.
    #[schemars(with = "Option<String>")]
    pub(crate) expires: Option<Date>,
}

/// Where crates may come from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Sources {
    /// `crates-io`, or how a source in the lock file begins, as in `git+https://github.com/acme/`.
    pub(crate) allow: Vec<String>,
}

/// Under which licences crates may be used.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Licenses {
    /// SPDX identifiers, as in `MIT` or `Apache-2.0 WITH LLVM-exception`.
    pub(crate) allow: Vec<String>,
    /// A folder of vendored crates, as `cargo vendor` makes it; without it, `cargo metadata` is asked.
    pub(crate) manifests: Option<WorkspacePath>,
    /// Licences that one crate may have beyond `allow`.
    #[serde(default)]
    pub(crate) exceptions: BTreeMap<String, Vec<String>>,
}

/// A crate that must not be used.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(crate = "stagewright_sdk::schemars")]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct DenyCrate {
    /// The crate's name.
    pub(crate) name: String,
    /// Which versions, as in `<2`; all of them unless given.
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

/// What parsing alone doesn't find: each mistake's key, and what is wrong with it.
pub(crate) fn mistakes(config: &Config) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (index, ignore) in config.ignore.iter().enumerate() {
        if ignore.reason.trim().is_empty() {
            found.push((
                format!("ignore[{index}].reason"),
                format!("{} is ignored without a reason; say why, so that others can judge it", ignore.id),
            ));
        }
        if config.ignore[..index].iter().any(|earlier| earlier.id == ignore.id) {
            found.push((format!("ignore[{index}].id"), format!("{} is ignored twice; keep one entry", ignore.id)));
        }
    }
    for (index, deny) in config.deny_crates.iter().enumerate() {
        if deny.reason.trim().is_empty() {
            found.push((
                format!("deny-crates[{index}].reason"),
                format!("{} is denied without a reason; say what to use instead", deny.name),
            ));
        }
    }
    if let Some(licenses) = &config.licenses {
        let exceptions = licenses
            .exceptions
            .iter()
            .flat_map(|(name, ids)| ids.iter().map(move |id| (format!("exceptions.{name}"), id)));
        for (key, id) in licenses.allow.iter().map(|id| ("allow".to_owned(), id)).chain(exceptions) {
            if let Err(error) = spdx::Licensee::parse(id) {
                found.push((
                    format!("licenses.{key}"),
                    format!("`{id}` is no SPDX licence identifier: {}", error.reason),
                ));
            }
        }
    }
    found
}
