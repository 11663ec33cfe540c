//! Deploys to real targets, which each test starts in a network of its own.

mod analysis;
mod compose;
mod docker;
mod engine;
mod kubernetes;
mod load;
mod machine;
mod swarm;
