//! The stage's environment and its ledger of releases.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

pub use crate::rollout::{Rollout, RolloutPhase};
use crate::{Error, Result, host::environment as host};

/// A release in the ledger.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Release {
    /// What was deployed, by digest.
    pub artifact: String,
    /// The release's URL.
    #[serde(default)]
    pub url: Option<String>,
    /// The `with` table that it was deployed with. It has the names of secrets and not their values.
    pub config: Json,
    /// What it consists of, as its deployment described it: texts by name.
    #[serde(default)]
    pub parts: BTreeMap<String, String>,
    /// The fencing token that it was deployed under.
    #[serde(default)]
    pub fence: u64,
    /// The full id of the commit that it was deployed from; empty outside of a repository.
    #[serde(default)]
    pub commit: String,
    /// Who started the run that deployed it.
    #[serde(default)]
    pub by: String,
    /// What was measured of it: the metrics that the stages of its run have reported, by the stage's unique name and the
    /// metric's name. Only in the result of [`good_release`].
    #[serde(default)]
    pub measurements: BTreeMap<String, BTreeMap<String, f64>>,
}

/// The environment's fencing token that this call holds; in [`crate::Reconcile::observe`], the last that the interrupted
/// attempt held. Tokens only grow, also during an attempt that waits. None for a stage without an environment.
pub fn fence() -> Option<u64> {
    host::fence()
}

/// The settings of an environment.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// The kind of target, as in `process`.
    #[serde(default)]
    pub target: Option<String>,
    /// Its URL.
    #[serde(default)]
    pub url: Option<String>,
    /// The paths of its configuration files, of which later ones override earlier ones.
    #[serde(default)]
    pub config: Vec<String>,
    /// Whether it is protected: deploys name images by digest, and data for tests has no place in it. False on an engine
    /// before version 0.2.3 of the contract.
    #[serde(default)]
    pub protected: bool,
}

/// The environment's settings; none for a stage without an environment.
///
/// # Errors
/// When the host's record can't be parsed.
pub fn settings() -> Result<Option<Settings>> {
    read(host::settings())
}

/// The ledger's current release.
///
/// # Errors
/// When the host's record can't be parsed.
pub fn current() -> Result<Option<Release>> {
    read(host::current())
}

/// The release that serves in the real environment. Differs from [`current`] only in a rehearsal, whose environment is its own.
///
/// # Errors
/// When the host's record can't be parsed.
pub fn standing() -> Result<Option<Release>> {
    read(host::standing())
}

/// In a rehearsal, says what this attempt would do, as in "would deploy …": unless the attempt fails, it ends as rehearsed with
/// this text. Has no effect in a real run.
pub fn would(what: impl AsRef<str>) {
    host::would(what.as_ref());
}

/// The last release that was marked good and isn't current: what [`crate::Reconcile::undo`] deploys.
///
/// # Errors
/// When the host's record can't be parsed.
pub fn last_known_good() -> Result<Option<Release>> {
    read(host::last_known_good())
}

/// The release that this run restores: that of `stagewright rollback`, or the one that serves again when an abandoned
/// rollout is aborted. Its [`fence`](Release::fence) says which of several with the same configuration it is.
///
/// # Errors
/// When the host's record can't be parsed.
pub fn restored() -> Result<Option<Release>> {
    read(host::restored())
}

/// The newest release of an environment of the pipeline that was marked good, without those of this run. For a region,
/// `environment` is as in `production.eu`. The stage needn't act on the environment, and so needs no approval. In a
/// rehearsal it is that of the real environment. The result of a stage that calls this isn't cached.
///
/// Since version 0.2.3 of the contract: a plugin that calls it needs an engine that has it.
///
/// # Errors
/// When the pipeline has no such environment, or the host's record can't be parsed.
pub fn good_release(environment: &str) -> Result<Option<Release>> {
    read(host::good_release(environment)?)
}

/// How far this stage's rollout was when it was last recorded in this run.
///
/// # Errors
/// When the host's record can't be parsed.
pub fn rollout() -> Result<Option<Rollout>> {
    read(host::rollout())
}

/// Records how far this stage's rollout is. It is durable when this returns, and people see it. Until its phase is
/// [`RolloutPhase::Completed`] or [`RolloutPhase::Aborted`], the run keeps the environment, also while it waits.
///
/// # Errors
/// When the stage has no environment, the environment was taken over by a newer run, or the record is too large.
pub fn record_rollout(rollout: &Rollout) -> Result<()> {
    Ok(host::record_rollout(&serde_json::to_string(rollout)?)?)
}

/// Records in the ledger what the attempt has deployed. A later call replaces an earlier one.
///
/// # Errors
/// When the stage has no environment, or `artifact` is empty.
pub fn released(artifact: &str, url: Option<&str>) -> Result<()> {
    released_with_parts(artifact, url, &BTreeMap::new())
}

/// Like [`released`], and also records what the release consists of, so that a later deploy can say what it changes. All parts
/// together have at most 256 KiB.
///
/// # Errors
/// As [`released`], and when the parts are larger.
pub fn released_with_parts(artifact: &str, url: Option<&str>, parts: &BTreeMap<String, String>) -> Result<()> {
    let deployment = host::Deployment::new(artifact);
    if let Some(url) = url {
        deployment.url(url);
    }
    for (name, text) in parts {
        deployment.part(name, text);
    }
    Ok(deployment.report()?)
}

fn read<T: DeserializeOwned>(record: Option<String>) -> Result<Option<T>> {
    record.map(|text| serde_json::from_str(&text)).transpose().map_err(Error::from)
}
