//! Deploys to the target `lambda`: publishes a version of a function, checks it, and gives it the requests to an alias as its
//! strategy says.
//!
//! Input: a zip archive that an earlier stage has published, or an image by digest. Output: the version's name, and the code
//! that it replaced. Callers use the alias; its weights make a canary, and moving it makes the version the one that serves.
//!
//! The alias's description has the fencing token and the run, and each change of the alias requires that nothing else has
//! changed it meanwhile (`RevisionId`), so that Lambda itself refuses a stale deploy. `observe` looks whether the alias was
//! moved by the interrupted run. `undo` moves it to the environment's last known-good version.
//!
//! It changes nothing of the configuration of a function that exists but the variables of `secret-env`, whose values the host
//! writes into the request; a version has the configuration that it finds.

mod config;
mod create;
mod function;
mod mark;
mod target;
#[cfg(test)]
mod tests;
mod variables;

use crate::target::Versions;

/// The plugin.
pub(crate) type DeployLambda = rollout::Deploy<Versions>;

stagewright_sdk::export_effectful_stage!(DeployLambda);
