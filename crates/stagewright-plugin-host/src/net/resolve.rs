//! Looks up names, and checks their addresses with the guard.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{self, AddressRefused};

/// Finds the addresses of a name.
pub(crate) trait Lookup: Send + Sync {
    /// The addresses in the order in which they should be tried.
    fn lookup(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// Uses the machine's configuration: its hosts file and its name servers.
pub(crate) struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let name = name.to_owned();
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(addresses.map(|address| address.ip()).collect())
        })
    }
}

/// Why a name has no address that may be connected to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error(transparent)]
    Refused(#[from] AddressRefused),
    #[error("could not look up the name")]
    Lookup(#[from] io::Error),
}

/// The addresses of `name` that the guard allows. Refused ones are dropped as long as others remain: that gains nothing for
/// an attacker who rebinds a name to this machine, and a host with one stray record stays reachable.
pub(crate) async fn addresses(lookup: &dyn Lookup, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
    // The whole answer is checked at once, and the connection is made to one of these addresses. Checking a name here and
    // connecting by name later would let its owner return a harmless address to the check, and this machine's to the
    // connection.
    let name = name.to_ascii_lowercase();
    let mut allowed = Vec::new();
    let mut first_refused = None;
    for address in lookup.lookup(&name).await? {
        match address::check(&name, address) {
            Ok(()) => allowed.push(address),
            Err(refused) => first_refused = first_refused.or(Some(refused)),
        }
    }
    match first_refused {
        Some(refused) if allowed.is_empty() => Err(refused.into()),
        None if allowed.is_empty() => Err(io::Error::from(io::ErrorKind::NotFound).into()),
        _ => Ok(allowed),
    }
}

/// The resolver of the client for guests' requests. The client connects to exactly the addresses that it returns.
#[derive(Clone)]
pub(crate) struct Guarded {
    lookup: Arc<dyn Lookup>,
    /// The hosts of the engine's own proxies, which the operator configured and which may be on this machine.
    trusted: BTreeSet<String>,
}

impl Guarded {
    pub(crate) fn new(lookup: Arc<dyn Lookup>, trusted: BTreeSet<String>) -> Guarded {
        Guarded { lookup, trusted }
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let lookup = self.lookup.clone();
        let trusted = self.trusted.contains(name.as_str());
        Box::pin(async move {
            let found = if trusted {
                lookup.lookup(name.as_str()).await?
            } else {
                addresses(&*lookup, name.as_str()).await.map_err(|error| match error {
                    // Without a wrapper, so that it can be found in the chain of causes.
                    ResolveError::Refused(refused) => Box::<dyn std::error::Error + Send + Sync>::from(refused),
                    ResolveError::Lookup(error) => error.into(),
                })?
            };
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
