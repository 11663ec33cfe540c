//! Deploys to the target `swarm`: a stack of services, as `docker stack deploy` does, but by digest, in order, and to its end.
//!
//! Input: a release that the stage `compose-release` has made of a Compose file. Output: the release's name, and what it
//! replaced. The engine, a manager of the swarm, is reached over its socket, by the methods and paths that a deploy takes and
//! nothing else.
//!
//! Each service carries the fencing token of its last deploy. A change of a service is based on its version, and the swarm
//! refuses it if the service has changed since: an older deploy can't overtake a newer one, not even between its check and
//! its change. What was deployed is kept in the swarm, so that a failed deploy can be undone without Swarm's own rollback,
//! which knows the previous state alone.
//!
//! Secrets of the stage become secrets of the swarm, whose values the host writes into the requests. The plugin never removes
//! volumes.

mod config;
mod drift;
mod progress;
mod records;
mod secrets;
mod spec;
mod target;
#[cfg(test)]
mod tests;
mod version;

use crate::target::Stack;

/// The plugin.
pub(crate) type DeploySwarm = rollout::Deploy<Stack>;

stagewright_sdk::export_effectful_stage!(DeploySwarm);
