//! A cache that several machines share, in a folder, an S3 bucket, or on an HTTP server.
//!
//! ```text
//! <address>/trusted/ab/<key>.gz          results that runs of all tiers use
//! <address>/tiers/<tier>/ab/<key>.gz     results that only runs of this tier use
//! ```
//!
//! Every received result is verified, and can only contain files that the stage could have created itself. Beyond that, a
//! shared cache is as trustworthy as everyone who can write to it. If a request fails or takes too long, the shared cache
//! is not used for the rest of the run, and the run continues without it.

#[cfg(not(feature = "shared"))]
mod absent;
#[cfg(feature = "shared")]
mod address;
#[cfg(feature = "shared")]
mod client;
#[cfg(feature = "shared")]
mod transfer;

use std::path::Path;

#[cfg(not(feature = "shared"))]
pub use absent::SharedCache;
#[cfg(feature = "shared")]
pub use client::SharedCache;

use crate::digest::Digest;
use crate::store::CachedResult;
use crate::tier::Tier;

/// An address of a shared cache that is invalid, or that this program wasn't built for.
#[derive(Debug, thiserror::Error)]
#[error("`{address}` can't be used as a shared cache: {why}")]
pub struct BadAddress {
    /// The address as given, without a user's name and password.
    pub address: String,
    /// What is wrong with it.
    pub why: String,
    /// How to correct it.
    pub help: &'static str,
}

/// The outcome of looking up a result in the shared cache.
#[derive(Debug, PartialEq)]
#[cfg_attr(not(feature = "shared"), expect(dead_code, reason = "only the client looks results up"))]
pub(crate) enum SharedLookup {
    /// The result has been added to the local store, under this key.
    Found(Tier, Digest, CachedResult),
    /// There is no result, or the shared cache was disabled earlier.
    NotFound,
    /// There is a result, but it can't be used for this reason.
    Damaged(String),
    /// This lookup failed for this reason, and the shared cache is not used any more.
    Disabled(String),
}

/// How many results were sent to the shared cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Results that were sent.
    pub results: u64,
    /// Results that could not be sent.
    pub failed: u64,
    /// The first error.
    pub error: Option<String>,
}

impl SharedCache {
    /// The folder that an address names; none if it names a server.
    pub fn folder(address: &str) -> Option<&Path> {
        let (scheme, rest) = address.split_once("://").unwrap_or(("file", address));
        (scheme == "file").then(|| Path::new(rest))
    }
}

/// The address without a user's name and password.
fn without_user(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match host.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}{path}"),
        None => address.to_owned(),
    }
}
