//! A release as this run applies it, and the names of its secrets.

use std::collections::BTreeMap;

use docker_engine::Provenance;

/// The names on the swarm of the secrets that deploys have created for a release, by what its file calls them.
pub(crate) type SecretNames = BTreeMap<String, String>;

/// A release that this run has applied.
#[derive(Clone, Debug)]
pub(crate) struct StackRelease {
    pub(crate) provenance: Provenance,
    pub(crate) secrets: SecretNames,
}

/// How many digits of a digest the name of a secret ends with.
pub(crate) const DIGITS: usize = 12;
/// The most letters of a secret's name that the swarm takes.
const LONGEST: usize = 64;

/// How long the name may be that the file of this stack gives a secret.
pub(crate) fn longest_secret_name(stack: &str) -> usize {
    LONGEST.saturating_sub(stack.len() + DIGITS + 2)
}
