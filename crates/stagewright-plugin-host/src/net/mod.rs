//! The network of an attempt: which addresses a granted name may lead to, and the proxy through which the programs of a
//! stage reach what is granted.
//!
//! ```text
//! guest ── capability::http ── reqwest ── resolver ─┐
//!                                                   ├── address (the guard) ── granted hosts
//! program ── proxy ── egress (policy) ── dial ──────┘
//!         └─ forward ── loopback of this machine
//! ```
//!
//! In flow the policy of an attempt and listeners that its programs can reach; out flow connections to what was granted,
//! and the denials. The address that was checked is the one that is connected to: no name is looked up twice.
//!
//! Where the engine is told to use a proxy itself (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`), that proxy resolves the
//! names of all hosts that `NO_PROXY` doesn't exempt, and their addresses aren't seen here: the guard is then the
//! proxy's duty.
//!
//! Architecture invariant: nothing here grants anything. What isn't in the policy, or one of the attempt's own services,
//! is refused before a name is looked up.

pub(crate) mod background;
pub(crate) mod client;
pub(crate) mod dial;
pub(crate) mod egress;
pub(crate) mod forward;
pub(crate) mod outbound;
pub(crate) mod proxy;

mod address;
mod hello;
mod idle;
mod own;
mod resolve;
mod upstream;

pub(crate) use address::{AddressRefused, Kind, check as check_address};
pub(crate) use own::OwnOrigins;
pub(crate) use resolve::{Guarded, Lookup, SystemLookup};
pub(crate) use upstream::Upstream;

#[cfg(test)]
mod tests;
