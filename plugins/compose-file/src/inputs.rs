//! What a file is resolved with.

use std::collections::{BTreeMap, BTreeSet};

use rollout::Image;
use serde::{Deserialize, Serialize};
use stagewright_sdk::{JsonSchema, schemars};

use crate::power::Power;

/// What carries out a release. The two support different keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// Docker Compose.
    #[default]
    Compose,
    /// Docker Swarm.
    Swarm,
}

/// What a file is resolved with.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// What carries out the release.
    pub runtime: Runtime,
    /// The images of services, in place of those of the file.
    pub images: BTreeMap<String, Image>,
    /// The values of variables.
    pub variables: BTreeMap<String, String>,
    /// Variables whose values are secrets: the release has only their names.
    pub secrets: BTreeSet<String>,
    /// What services may do beyond their containers.
    pub allow: BTreeSet<Power>,
}
