//! Which releases get the requests: `table.json`.

use std::io;
use std::path::Path;

use super::matching::HeaderMatch;
use serde::{Deserialize, Serialize};
use stagewright_files::{RECORD, read, replace_durably};

/// How a proxy distributes requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RoutingTable {
    /// The fencing token of the deploy that wrote it; none if no deploy with a token has.
    pub(crate) fence: Option<u64>,
    /// The release that gets what the canary doesn't; none if no release serves.
    pub(crate) serving: Option<Backend>,
    /// The release that gets a limited share.
    pub(crate) canary: Option<Canary>,
}

/// The replicas of one release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Backend {
    /// The release's name.
    pub(crate) release: String,
    /// Ports of this machine's loopback, one for each replica.
    pub(crate) ports: Vec<u16>,
}

/// A release that gets a share of the requests beside the serving one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Canary {
    /// Percent of the requests that meet no condition: 1 to 99, or 0 with conditions.
    pub(crate) weight: u32,
    /// It gets all requests that meet one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) conditions: Vec<HeaderMatch>,
    /// Its replicas.
    pub(crate) backend: Backend,
}

impl RoutingTable {
    /// All requests for one release; none if none serves.
    pub(crate) fn all_to(fence: Option<u64>, serving: Option<Backend>) -> RoutingTable {
        RoutingTable { fence, serving, canary: None }
    }

    /// Gives a release this percentage of the requests, and all of those that meet a condition; the serving one gets the rest.
    /// Without a serving release that has replicas, it gets all of them, since nothing else could answer.
    pub(crate) fn shared(
        fence: Option<u64>,
        serving: Option<Backend>,
        backend: Backend,
        weight: u32,
        conditions: Vec<HeaderMatch>,
    ) -> RoutingTable {
        match serving.filter(|serving| !serving.ports.is_empty()) {
            Some(serving) if weight == 0 && conditions.is_empty() => RoutingTable::all_to(fence, Some(serving)),
            Some(serving) if weight < 100 => {
                RoutingTable { fence, serving: Some(serving), canary: Some(Canary { weight, conditions, backend }) }
            }
            _ => RoutingTable::all_to(fence, Some(backend)),
        }
    }

    /// The conditions on requests that a release gets whatever its weight is.
    pub(crate) fn conditions_of(&self, release: &str) -> Vec<HeaderMatch> {
        let canary = self.canary.as_ref().filter(|canary| canary.backend.release == release);
        canary.map_or_else(Vec::new, |canary| canary.conditions.clone())
    }

    /// How many percent of the requests a release gets.
    pub(crate) fn weight_of(&self, release: &str) -> u32 {
        let canary = self.canary.as_ref().map_or(0, |canary| canary.weight);
        match (&self.serving, &self.canary) {
            (_, Some(Canary { backend, .. })) if backend.release == release => canary,
            (Some(serving), _) if serving.release == release => 100 - canary,
            _ => 0,
        }
    }

    /// The ports of all replicas that get requests.
    pub(super) fn ports(&self) -> Vec<u16> {
        let canary = self.canary.as_ref().map(|canary| &canary.backend);
        self.serving.iter().chain(canary).flat_map(|backend| backend.ports.iter().copied()).collect()
    }

    /// Reads the table in the folder of a proxy; the default if none was written yet.
    pub(super) fn read(dir: &Path) -> io::Result<RoutingTable> {
        match read(&dir.join(FILE), RECORD) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(RoutingTable::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the table in the folder of a proxy. It is on disk when this returns.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        replace_durably(&dir.join(FILE), &serde_json::to_vec_pretty(self)?)
    }
}

/// The name of the table's file.
const FILE: &str = "table.json";
