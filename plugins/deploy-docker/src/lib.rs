//! Deploys to the target `docker`: starts a release as a container of a Docker engine, waits until it is ready, and gives it
//! the requests as its strategy says.
//!
//! Input: an image by digest, and how to run it. Output: the address, the release's name, and the image that it replaced.
//! The engine is reached over its socket, by the methods and paths that a deploy takes and nothing else.
//!
//! Each container carries the fencing token that it was started under, and a deploy with an older one is refused. `observe`
//! looks whether the container that serves was started by the interrupted run. `undo` deploys the environment's last
//! known-good release with its original configuration.
//!
//! It doesn't mount folders of the machine, and starts no privileged containers.

mod config;
mod target;
#[cfg(test)]
mod tests;

use crate::target::Containers;

/// The plugin.
pub(crate) type DeployDocker = rollout::Deploy<Containers>;

stagewright_sdk::export_effectful_stage!(DeployDocker);
