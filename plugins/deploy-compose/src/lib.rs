//! Deploys to the target `compose`: a project of Docker Compose on one machine.
//!
//! Input: a release that the stage `compose-release` has made of a Compose file. Output: the release's name, and what it
//! replaced. `docker compose` gets the release on its standard input, with images by digest, which were pulled before, so that
//! what it applies is what was checked. Everything else goes over the engine's socket, by the methods and paths that a deploy
//! takes and nothing else.
//!
//! The project's releases are kept as volumes without content, whose labels say which deploy they come from: Compose would
//! start all containers of a project again if the labels were theirs. A deploy with an older token is refused.
//!
//! Values of secrets go from the host to the program. The plugin doesn't see them.

mod compose;
mod config;
mod containers;
mod records;
mod target;
#[cfg(test)]
mod tests;

use crate::target::Project;

/// The plugin.
pub(crate) type DeployCompose = rollout::Deploy<Project>;

stagewright_sdk::export_effectful_stage!(DeployCompose);
