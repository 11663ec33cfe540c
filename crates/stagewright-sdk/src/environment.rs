//! The environment that the stage names, and its ledger of releases.

use serde::Deserialize;
use serde_json::Value as Json;

use crate::{Error, Result, host::environment as host};

/// A release of the ledger.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Release {
    /// What it consists of, by digest.
    pub artifact: String,
    /// Where it answers.
    #[serde(default)]
    pub url: Option<String>,
    /// The `with` table that it was made with; secrets stand in it by name.
    pub config: Json,
    /// The token that it was made under.
    #[serde(default)]
    pub fence: u64,
}

/// The token that the attempt acts under, or acted under when [`crate::Reconcile::observe`] is asked about it. It only
/// grows. None when the stage names no environment.
pub fn fence() -> Option<u64> {
    host::fence()
}

/// What the ledger says is current.
///
/// # Errors
/// When what the host tells isn't a release.
pub fn current() -> Result<Option<Release>> {
    read(host::current())
}

/// The last release that proved good and is not the current one: what [`crate::Reconcile::undo`] goes back to.
///
/// # Errors
/// When what the host tells isn't a release.
pub fn last_known_good() -> Result<Option<Release>> {
    read(host::last_known_good())
}

/// Tells the ledger what the attempt has put in place. The last call counts.
///
/// # Errors
/// When the stage names no environment.
pub fn released(artifact: &str, url: Option<&str>) -> Result<()> {
    Ok(host::released(artifact, url)?)
}

fn read(release: Option<String>) -> Result<Option<Release>> {
    release.map(|text| serde_json::from_str(&text)).transpose().map_err(Error::from)
}
