//! Results that several machines share: in a folder, an S3 bucket, or on an HTTP server.
//!
//! ```text
//! <address>/trusted/ab/<key>.gz          results that everybody takes
//! <address>/tiers/<tier>/ab/<key>.gz     those that only runs of the tier take
//! ```
//!
//! Nothing there is trusted further than whoever may write to it: what comes in is checked, and may only be what the
//! stage could have made. What fails or takes too long is given up for the rest of the run, which goes on without.

mod address;
mod transfer;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectStore, ObjectStoreExt as _};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

pub use address::BadAddress;

use crate::digest::Digest;
use crate::packed::{LARGEST_TOTAL, pack, unpack};
use crate::store::{CachedResult, ResultStore};
use crate::tier::Tier;

/// For an answer, and for whatever takes no time at a usual pace.
const PATIENCE: Duration = Duration::from_secs(10);

/// What comes or goes more slowly is given up: bytes a second.
const SLOWEST: u64 = 1 << 20;

/// Results that are sent at a time.
const SENT_AT_ONCE: usize = 2;

/// A cache that several machines share.
#[derive(Clone, Debug)]
pub struct SharedCache(Arc<SharedCacheState>);

#[derive(Debug)]
struct SharedCacheState {
    objects: Arc<dyn ObjectStore>,
    /// Whether results are put there.
    sends: bool,
    /// Why it isn't used any more.
    given_up: OnceLock<String>,
    sending: Mutex<JoinSet<io::Result<()>>>,
    slots: Arc<Semaphore>,
}

/// What became of the question for a result.
#[derive(Debug, PartialEq)]
pub(crate) enum SharedLookup {
    /// It is in the local store now, under the key.
    Found(Tier, Digest, CachedResult),
    /// There is none.
    Nothing,
    /// There is one, and it can't be used: why.
    Damaged(String),
    /// The cache isn't used any more, from now on: why.
    GivenUp(String),
}

/// What came of the results that were to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Results that are there now.
    pub results: u64,
    /// Results that are not.
    pub failed: u64,
    /// Why the first of them is not.
    pub error: Option<String>,
}

impl SharedCache {
    /// `address`: a folder's absolute path, `s3://BUCKET/PREFIX`, or an `http` or `https` URL. `environment`: what goes
    /// with it, `AWS_…` and `TOKEN`. `sends`: whether results are put there.
    ///
    /// # Errors
    /// When there can be no cache at the address. Whether there is one is seen when it is used.
    pub fn open(address: &str, environment: &BTreeMap<String, String>, sends: bool) -> Result<SharedCache, BadAddress> {
        Ok(SharedCache::of(address::open(address, environment)?, sends))
    }

    /// The folder that an address names; none where it names a server.
    pub fn folder(address: &str) -> Option<&Path> {
        let (scheme, rest) = address.split_once("://").unwrap_or(("file", address));
        (scheme == "file").then(|| Path::new(rest))
    }

    fn of(objects: Arc<dyn ObjectStore>, sends: bool) -> SharedCache {
        SharedCache(Arc::new(SharedCacheState {
            objects,
            sends,
            given_up: OnceLock::new(),
            sending: Mutex::default(),
            slots: Arc::new(Semaphore::new(SENT_AT_ONCE)),
        }))
    }

    /// Brings the first result that there is under one of the keys into the local store.
    pub(crate) async fn fetch(&self, keys: &[(Tier, Digest)], store: &ResultStore) -> SharedLookup {
        for (tier, key) in keys {
            if self.0.given_up.get().is_some() {
                break;
            }
            match self.fetch_one(tier, key, store).await {
                Ok(None) => {}
                Ok(Some(entry)) => return SharedLookup::Found(tier.clone(), *key, entry),
                Err(error) if !is_broken(&error) => return SharedLookup::Damaged(error.to_string()),
                Err(error) => return self.give_up(&error).map_or(SharedLookup::Nothing, SharedLookup::GivenUp),
            }
        }
        SharedLookup::Nothing
    }

    async fn fetch_one(&self, tier: &Tier, key: &Digest, store: &ResultStore) -> io::Result<Option<CachedResult>> {
        let found = match timeout(PATIENCE, self.0.objects.get(&object_path(tier, key))).await {
            Err(_) => return Err(slow()),
            Ok(Err(Error::NotFound { .. })) => return Ok(None),
            Ok(found) => found.map_err(|error| failed(&error))?,
        };
        // What it says of its size is no promise.
        let deadline = Instant::now() + allowance(found.meta.size.min(LARGEST_TOTAL));
        let (store, key, runtime) = (store.clone(), *key, Handle::current());
        let incoming = transfer::Incoming::new(found.into_stream(), deadline, runtime);
        let unpacking = move || unpack(&store, &key, incoming);
        tokio::task::spawn_blocking(unpacking).await.map_err(io::Error::other)?.map(Some)
    }

    /// Sends a result of the local store, while other work goes on.
    pub(crate) fn send(&self, tier: &Tier, key: Digest, store: &ResultStore) {
        if !self.0.sends {
            return;
        }
        let (shared, place, store) = (self.clone(), object_path(tier, &key), store.clone());
        let sending = async move {
            let _slot = shared.0.slots.acquire().await;
            if let Some(why) = shared.0.given_up.get() {
                return Err(io::Error::other(why.clone()));
            }
            let (objects, runtime) = (Arc::clone(&shared.0.objects), Handle::current());
            let send = move || transfer::send(objects.as_ref(), &place, pack(&store, &key)?, &runtime);
            let sent = tokio::task::spawn_blocking(send).await.map_err(io::Error::other)?;
            if let Err(error) = &sent
                && is_broken(error)
            {
                shared.give_up(error);
            }
            sent
        };
        self.0.sending.lock().unwrap_or_else(PoisonError::into_inner).spawn(sending);
    }

    /// Waits for what is being sent.
    pub(crate) async fn finish_sending(&self) -> Sent {
        let mut sending = std::mem::take(&mut *self.0.sending.lock().unwrap_or_else(PoisonError::into_inner));
        let mut sent = Sent::default();
        while let Some(ended) = sending.join_next().await {
            match ended.map_err(io::Error::other).flatten() {
                Ok(()) => sent.results += 1,
                Err(error) => {
                    sent.failed += 1;
                    sent.error.get_or_insert_with(|| error.to_string());
                }
            }
        }
        sent
    }

    /// Uses it no more. Says why to who comes first.
    fn give_up(&self, error: &io::Error) -> Option<String> {
        let why = error.to_string();
        self.0.given_up.set(why.clone()).is_ok().then_some(why)
    }
}

fn object_path(tier: &Tier, key: &Digest) -> ObjectPath {
    let hex = key.hex();
    let (folder, name) = (hex[..2].to_owned(), format!("{}.gz", &hex[2..]));
    // Whatever a tier is called, its name is one part of the path.
    match tier {
        Tier::Trusted => ObjectPath::from_iter(["trusted".to_owned(), folder, name]),
        Tier::Own(tier) => ObjectPath::from_iter(["tiers".to_owned(), tier.clone(), folder, name]),
    }
}

/// How long so many bytes may take.
fn allowance(bytes: u64) -> Duration {
    PATIENCE + Duration::from_secs(bytes / SLOWEST)
}

fn slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it is too slow")
}

fn failed(error: &Error) -> io::Error {
    let text = error.to_string();
    // A library's words may run over several lines, with a page of HTML at their end.
    let line = text.lines().next().unwrap_or_default();
    io::Error::new(io::ErrorKind::ConnectionAborted, line.chars().take(300).collect::<String>())
}

/// It is the cache, or the way to it, that failed, and not one result.
fn is_broken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests;
