//! Deploys to real targets, which each test starts in a network of its own.

mod analysis;
mod aws;
mod compose;
mod docker;
mod ecs;
mod engine;
mod kubernetes;
mod lambda;
mod load;
mod machine;
mod process;
mod static_site;
mod swarm;
