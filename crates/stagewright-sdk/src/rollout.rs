//! Deploys that give a new version its requests step by step.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// How far a deploy is that gives a new version its requests step by step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rollout {
    /// What is deployed.
    pub service: String,
    /// The name of the new version on its target.
    pub version: String,
    /// The new version's content by digest.
    pub artifact: String,
    /// As in `canary`.
    pub strategy: String,
    /// What it does now, or how it ended.
    pub phase: RolloutPhase,
    /// How many of its steps are done.
    pub step: u32,
    /// The number of its steps.
    pub steps: u32,
    /// How many percent of the requests the new version gets, 0 to 100.
    pub weight: u32,
    /// What it is doing or waiting for, or why it ended, in a sentence.
    pub message: String,
    /// What the plugin needs to continue it: at most 64 KiB of JSON.
    pub state: Json,
}

/// What a rollout does, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutPhase {
    /// Its steps are carried out.
    Progressing,
    /// It waits for a time or for a person.
    Paused,
    /// The new version gets all requests.
    Completed,
    /// It was given up, and the earlier version gets all requests again.
    Aborted,
    /// It was given up, but the earlier version couldn't be restored.
    Degraded,
}
