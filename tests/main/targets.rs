//! Deploys to real targets, which each test starts in a network of its own.

mod analysis;
pub(crate) mod aws;
mod compose;
mod docker;
mod ecs;
pub(crate) mod engine;
mod faults;
pub(crate) mod image_root;
mod kubernetes;
mod lambda;
mod load;
pub(crate) mod machine;
mod process;
mod ssh;
mod static_site;
mod swarm;
