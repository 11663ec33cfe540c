//! Deploys to the target `helm`: installs or upgrades a release of Helm by its program, with hooks and `lookup`, and waits until
//! its workloads are ready.
//!
//! Input: a chart in the workspace and values. Output: the release's revision, and what it was deployed from. The cluster is
//! reached with a credential that the host signs with, for the plugin and for Helm alike; neither has it.
//!
//! A ConfigMap of the cluster keeps the fencing token and the revisions that were deployed, and a deploy with an older token is
//! refused. `undo` rolls back to the revision of the last known-good release.
//!
//! It creates no namespace. Objects with `helm.sh/resource-policy: keep` stay when a release is removed, as always with Helm.

mod config;
mod helm;
mod record;
mod revision;
mod target;
#[cfg(test)]
mod tests;

use crate::target::Chart;

/// The plugin.
pub(crate) type DeployHelm = rollout::Deploy<Chart>;

stagewright_sdk::export_effectful_stage!(DeployHelm);
