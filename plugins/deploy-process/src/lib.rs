//! Deploys to the target `process`: starts a release as a supervised process of this machine, waits until it is healthy, and
//! makes it the current one.
//!
//! Input: an image by digest, and how to run it. Output: the address, the release's name, and the image that it replaced.
//! The old release keeps serving until the new one passes its health check; a new release that doesn't is removed.
//!
//! `observe` compares the fencing token under which the current release was started with the one of the interrupted
//! attempt. `undo` deploys the environment's last known-good release with its original configuration.
//!
//! It doesn't deploy by tag: what was tested and what is deployed must be the same bytes.

mod config;
mod target;
#[cfg(test)]
mod tests;

use crate::target::Processes;

/// The plugin.
pub(crate) type DeployProcess = rollout::Deploy<Processes>;

stagewright_sdk::export_effectful_stage!(DeployProcess);
