//! Deploys to the target `static`: puts the files of a site into a bucket of S3, and switches to them at once.
//!
//! Input: a folder that an earlier stage has published. Output: the release's name and the site's address. Only files that the
//! serving release doesn't have are sent.
//!
//! The bucket has everything that a later deploy has to know: each release with a list of its files, and a pointer to the one
//! that serves, with the fencing token and the run. The pointer is written only if nothing else has changed it, so that the
//! bucket refuses a stale deploy. `observe` looks whether the pointer is the interrupted run's. `undo` points to the
//! environment's last known-good release again, and sends nothing.
//!
//! It deletes only what releases have created.

mod cleanup;
mod config;
mod content;
mod distribution;
mod pointer;
mod release;
mod target;
#[cfg(test)]
mod tests;

use crate::target::Site;

/// The plugin.
pub(crate) type DeployStatic = rollout::Deploy<Site>;

stagewright_sdk::export_effectful_stage!(DeployStatic);
