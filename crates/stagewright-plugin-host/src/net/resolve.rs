//! Looks up names, and checks their addresses with the guard.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
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

/// The addresses of a name, or why there are none. All who ask for the name share it.
type Answer = Result<Vec<IpAddr>, (io::ErrorKind, String)>;

/// Looks up a name once for all who ask for it meanwhile. Package managers open hundreds of connections to one host at the
/// same time, and a name server that is asked as often at once doesn't answer most of them. Nothing is remembered longer.
pub(crate) struct JoinedLookup {
    lookup: Arc<dyn Lookup>,
    under_way: Arc<Mutex<HashMap<String, Shared<BoxFuture<'static, Answer>>>>>,
}

impl JoinedLookup {
    pub(crate) fn new(lookup: Arc<dyn Lookup>) -> JoinedLookup {
        JoinedLookup { lookup, under_way: Arc::default() }
    }

    fn ask(&self, name: &str) -> Shared<BoxFuture<'static, Answer>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = under_way.get(name) {
            return answer.clone();
        }
        let (answer, name, all) = (self.lookup.lookup(name), name.to_owned(), Arc::clone(&self.under_way));
        let answer = {
            let name = name.clone();
            async move {
                let answer = answer.await.map_err(|error| (error.kind(), error.to_string()));
                all.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
                answer
            }
        };
        let answer = answer.boxed().shared();
        under_way.insert(name, answer.clone());
        answer
    }
}

impl Lookup for JoinedLookup {
    fn lookup(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let answer = self.ask(name);
        async move { answer.await.map_err(|(kind, message)| io::Error::new(kind, message)) }.boxed()
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// Answers once it is allowed to, first with an address and then with errors.
    struct Slow {
        asked: AtomicUsize,
        may_answer: Arc<Semaphore>,
    }

    impl Lookup for Slow {
        fn lookup(&self, _name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            let (nth, may_answer) = (self.asked.fetch_add(1, Ordering::Relaxed), self.may_answer.clone());
            Box::pin(async move {
                may_answer.acquire().await.unwrap().forget();
                match nth {
                    0 => Ok(vec![IpAddr::from([192, 0, 2, 1])]),
                    _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
                }
            })
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_at_a_time_and_then_again() {
        let slow = Arc::new(Slow { asked: AtomicUsize::new(0), may_answer: Arc::new(Semaphore::new(0)) });
        let shared = JoinedLookup::new(slow.clone());
        // One who gives up doesn't end the lookup for the others.
        drop(shared.lookup("a.test"));
        let together = futures_util::future::join_all((0..700).map(|_| shared.lookup("a.test")));
        slow.may_answer.add_permits(1000);
        let answers = together.await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|found| found.len() == 1)));
        assert_eq!(slow.asked.load(Ordering::Relaxed), 1);
        assert_eq!(shared.lookup("a.test").await.unwrap_err().to_string(), "no such name");
        assert_eq!(slow.asked.load(Ordering::Relaxed), 2);
        assert!(shared.under_way.lock().unwrap().is_empty());
    }
}
