//! Deploys to the target `ecs`: registers a task definition with an image by digest, updates a service to it, and waits until
//! ECS has replaced the tasks.
//!
//! Input: an image by digest; a template of the task definition, or the one that the service has. Output: the task
//! definition's name, and the image that it replaced. ECS replaces tasks by the service's own `deploymentConfiguration`.
//!
//! Tags of the task definition have the fencing token and the run, and a deploy with an older token than any that the service
//! runs is refused. `observe` looks whether the service runs the interrupted run's task definition. `undo` updates the service
//! to the one of the environment's last known-good release.
//!
//! Secrets go to AWS Secrets Manager, with values that the host writes into the requests, and the task definition refers to them.
//!
//! It doesn't create services, and changes nothing of one but its task definition.

mod config;
mod definition;
mod ecs;
mod target;
#[cfg(test)]
mod tests;
mod vault;

use crate::target::Services;

/// The plugin.
pub(crate) type DeployEcs = rollout::Deploy<Services>;

stagewright_sdk::export_effectful_stage!(DeployEcs);
