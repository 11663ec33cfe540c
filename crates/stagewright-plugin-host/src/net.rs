//! The network of an attempt: checks the addresses that granted names resolve to, and provides the proxy through which the
//! programs of a stage reach granted hosts.
//!
//! ```text
//! guest ── capability::http ── reqwest ── resolver ─┐
//!                                                   ├── address (the guard) ── granted hosts
//! program ── proxy ── egress (policy) ── dial ──────┘
//!         │    └─ authenticated (credentials, authority) ── reqwest, as above
//!         ├─ forward ── loopback of this machine, or dial
//!         └─ names (the hosts whose ports are forwarded, and reports of all others)
//! ```
//!
//! The inputs are the policy of an attempt and listeners that its programs can reach; the results are connections to
//! granted hosts, and denials. A connection goes to the very address that was checked, since a second lookup of its name
//! could return another one.
//!
//! Where the engine itself is configured to use a proxy (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`), that proxy resolves the
//! names of all hosts that `NO_PROXY` doesn't exempt. Their addresses can't be checked here; the proxy has to do that.
//!
//! Architecture invariant: nothing here grants anything. A host that is neither in the policy nor one of the attempt's own
//! services is denied before its name is looked up.

pub(crate) mod authority;
pub(crate) mod background;
pub(crate) mod client;
pub(crate) mod credentials;
pub(crate) mod dial;
pub(crate) mod egress;
pub(crate) mod forward;
pub(crate) mod names;
pub(crate) mod outbound;
pub(crate) mod proxy;
pub(crate) mod signing;

mod address;
mod hello;
mod idle;
mod own;
mod resolve;
mod upstream;

pub(crate) use address::{AddressKind, AddressRefused, check as check_address};
pub(crate) use own::OwnOrigins;
pub(crate) use resolve::{Guarded, JoinedLookup, Lookup, SystemLookup};
pub(crate) use upstream::Upstream;

#[cfg(test)]
mod tests;
