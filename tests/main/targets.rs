//! Deploys to real targets, which each test starts in a network of its own.

mod docker;
mod load;
mod machine;
