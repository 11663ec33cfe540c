//! Looking up names, with the guard behind it.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{self, AddressRefused};

/// Finds the addresses of a name.
pub(crate) trait Lookup: Send + Sync {
    /// In the order in which they should be tried; never none.
    fn lookup(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// As the machine is configured: its hosts file, its name servers.
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

/// Why a name gave no address that may be connected to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error(transparent)]
    Refused(#[from] AddressRefused),
    #[error("the name can't be looked up")]
    Lookup(#[from] io::Error),
}

/// The addresses of `name` that it may lead to. An answer that mixes in others is used without them: who rebinds a name
/// to get at this machine gets nothing by it, and a host with a stray record stays in reach.
pub(crate) async fn addresses(lookup: &dyn Lookup, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
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

/// The resolver of the client that guests' requests go through. What it gives is what is connected to.
#[derive(Clone)]
pub(crate) struct Guarded {
    lookup: Arc<dyn Lookup>,
    /// Hosts of the engine's own proxies, which an operator chose and which may well be on this machine.
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
                    // Bare, so that it is found in the chain of causes.
                    ResolveError::Refused(refused) => Box::<dyn std::error::Error + Send + Sync>::from(refused),
                    ResolveError::Lookup(error) => error.into(),
                })?
            };
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
