//! The interface through which a run learns of the releases of other runs. The host doesn't read the ledger itself.

use std::collections::BTreeMap;

use serde::Serialize;
use stagewright_engine::{Release, RunId};

/// The ledger of a run's repository.
pub trait ReleaseLedger: Send + Sync {
    /// The newest known-good release of an environment, without those of the run `asking`. `environment` is a key of the
    /// pipeline's environments, or a region's as in `production.eu`.
    ///
    /// May block: it is called on a thread that may.
    ///
    /// # Errors
    /// If the pipeline has no such environment, or the ledger can't be read.
    fn good_release(&self, environment: &str, asking: &RunId) -> Result<Option<GoodRelease>, ReleasesUnknown>;
}

/// A release that was marked good, and what was measured of it.
#[derive(Clone, Debug, Serialize)]
pub struct GoodRelease {
    /// The release.
    #[serde(flatten)]
    pub release: Release,
    /// The metrics that the stages of its run have reported, by the stage's id and the metric's name.
    pub measurements: BTreeMap<String, BTreeMap<String, f64>>,
}

/// Why the releases of an environment aren't known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleasesUnknown {
    /// The failure in one sentence.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
}
