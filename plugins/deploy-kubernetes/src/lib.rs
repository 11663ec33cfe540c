//! Deploys to the target `kubernetes`: applies the objects of a release to a cluster, waits until they are ready, and deletes
//! what the earlier release had and this one hasn't.
//!
//! Input: files with objects, or a folder or chart that a program renders, and images by digest. Output: the release's name,
//! and what it was deployed from. The API is reached with a credential that the host signs with.
//!
//! Objects are applied on the server's side under an owner of their own, so that only fields are touched that the release
//! sets. Everything is checked first, by the rules here and by the server. Each object carries the fencing token that it was
//! applied under, and a deploy with an older one is refused. The cluster keeps the releases, from which `undo` restores the
//! last known-good one.
//!
//! It creates no namespace of its own accord, and never deletes one, a claim of a volume, or a definition of a kind.

mod apply;
mod beside;
mod config;
mod configuration;
mod desired;
mod divide;
mod images;
mod record;
mod render;
mod target;
mod traffic;

use crate::target::Application;

/// The plugin.
pub(crate) type DeployKubernetes = rollout::Deploy<Application>;

stagewright_sdk::export_effectful_stage!(DeployKubernetes);
