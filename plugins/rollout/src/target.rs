//! What a kind of target implements.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use stagewright_sdk::environment::Release;
use stagewright_sdk::{Error, JsonSchema, LiveDifference, Manifest, Problem, Requirement, Result};

use crate::header_route::HeaderMatch;
use crate::probe::Probe;
use crate::strategy::Strategy;

/// A place where versions of a service run: processes of this machine, an engine for containers, an orchestrator, a cloud.
///
/// [`apply`](Target::apply) brings a version into being that gets no requests, unless the target itself gives it some as it
/// replaces replicas. It is observed until it is ready, gets its share of the requests with [`shift`](Target::shift), and
/// becomes the serving one with [`finish`](Target::finish). Until then [`undo`](Target::undo) can remove it. Each call may be
/// the second one after an interruption, and then completes what the first one began.
pub trait Target: Sized {
    /// The stage's `with` table.
    type Config: ReleaseConfig;
    /// A version that this run has applied.
    type Version;

    /// Whether a rehearsal really deploys, to a stand-in of the host's. Otherwise it only shows what a deploy would change.
    const HAS_STAND_IN: bool = false;

    /// The description of the plugin: `stagewright_sdk::manifest!()`. The outputs of a deploy are added to it.
    fn manifest() -> Manifest;

    /// The grants that a deploy uses.
    fn requirements(config: &Self::Config) -> Vec<Requirement>;

    /// Prepares to deploy the release of `config`, without changing anything. If the ledger's release `restored` is to be
    /// deployed again, the content is what it was then: a target that deploys files of the workspace must have kept them.
    fn open(config: &Self::Config, restored: Option<&Release>) -> Result<Self>;

    /// What a release consists of, beside its `with` table: texts by name, such as the objects of a cluster. A rehearsal shows
    /// how they differ from those of the release that serves. They follow from the configuration and the workspace alone; the
    /// target isn't asked. By default only the `with` table is compared.
    ///
    /// # Errors
    /// If a part can't be read.
    fn parts(config: &Self::Config) -> Result<BTreeMap<String, String>> {
        let _ = config;
        Ok(BTreeMap::new())
    }

    /// In a rehearsal, checks the release against what the target says of itself. Where the rehearsal may not ask the target,
    /// it ends there.
    ///
    /// # Errors
    /// If the target would refuse the release. One that can't be asked is worth a warning.
    fn check(config: &Self::Config) -> Result<()> {
        let _ = config;
        Ok(())
    }

    /// What identifies the content of the release, by digest.
    fn artifact(&self) -> &str;

    /// The version that serves: it got all requests when the last deploy finished, and gets what an unfinished one leaves it.
    fn serving(&self) -> Result<Option<Serving>>;

    /// The version that this run has applied in an earlier call, and that it hasn't finished.
    fn unfinished(&self) -> Result<Option<Self::Version>>;

    /// Brings the version into being. It carries the attempt's fencing token. Refuses to, if the target has a version with a
    /// newer one.
    fn apply(&self) -> Result<Self::Version>;

    /// How the version is presented to people.
    fn describe(&self, version: &Self::Version) -> Described;

    /// Where the replicas of the version answer HTTP requests: each of them has to pass the checks. Empty if it can't be
    /// reached from here.
    fn addresses(&self, version: &Self::Version) -> Vec<String> {
        self.describe(version).address.into_iter().collect()
    }

    /// Whether the target has the version running.
    fn observe(&self, version: &Self::Version) -> Result<Progress>;

    /// The last lines that the version logged. [`stagewright_sdk::ErrorCode::Unimplemented`] if the target keeps no logs.
    fn log_tail(&self, version: &Self::Version, lines: u32) -> Result<String>;

    /// Gives the version this percentage of the requests, 0 to 100, and the serving one the rest. For `waves`, it is the
    /// percentage of the hosts, and a host whose version can't serve gets the serving one back before this fails.
    fn shift(&self, version: &Self::Version, weight: u32) -> Result<()>;

    /// Like [`shift`](Target::shift), but the version also gets all requests that meet one of these conditions. It is called
    /// with some only if the strategy was made for it with [`Strategy::routing_headers`].
    fn shift_matching(&self, version: &Self::Version, weight: u32, conditions: &[HeaderMatch]) -> Result<()> {
        match conditions {
            [] => self.shift(version, weight),
            _ => Err(Error::internal("this target doesn't direct requests by their headers")),
        }
    }

    /// Makes the version, which gets all requests, the serving one, and stops the earlier one.
    fn finish(&self, version: &Self::Version) -> Result<()>;

    /// How what is in place differs from this release, which serves: in the parts that the release sets, other than its
    /// content. Must not change anything. Nothing by default, for a target whose releases can only be replaced.
    fn drift(&self, serving: &Serving) -> Result<Vec<LiveDifference>> {
        let _ = serving;
        Ok(Vec::new())
    }

    /// Gives all requests to the serving version, which was stopped if two can't run at a time, and removes this one.
    fn undo(&self, version: &Self::Version) -> Result<()>;
}

/// What the configurations of all targets have.
pub trait ReleaseConfig: DeserializeOwned + JsonSchema {
    /// Mistakes that parsing doesn't catch.
    fn problems(&self) -> Vec<Problem>;

    /// What is deployed. It is the same for all releases of an environment.
    fn service(&self) -> &str;

    /// The checks that a version has to pass in turn before it gets requests, each with its key in `with`.
    fn probes(&self) -> Vec<(&'static str, Probe)>;

    /// How the requests go from the earlier version to the new one.
    fn strategy(&self) -> Strategy;
}

/// The version that serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Serving {
    /// Its name, for people.
    pub version: String,
    /// What it was deployed from, by digest.
    pub artifact: String,
    /// Where it answers HTTP requests.
    pub address: Option<String>,
    /// The fencing token under which it was applied; none if it was applied without one.
    pub fence: Option<u64>,
    /// The run that deployed it, if the target keeps that. The fence decides otherwise.
    pub run: Option<String>,
    /// Whether it is known to be running.
    pub is_running: bool,
    /// Whether it is known to have ended.
    pub has_failed: bool,
}

/// A version as it is presented to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name on the target.
    pub name: String,
    /// Where it answers HTTP requests; none if it can't be reached from here.
    pub address: Option<String>,
    /// What a release has to do to pass its checks: `the program has to listen on …`.
    pub advice: String,
}

/// What a target says about a version that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It runs; its probes decide whether it is ready.
    Running,
    /// The target itself says that it isn't ready yet; the text says what is missing.
    Starting(String),
    /// It won't become ready; the text is the reason, as in `exited with code 1`.
    Failed(String),
}
