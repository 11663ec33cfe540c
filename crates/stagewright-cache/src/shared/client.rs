//! The client of a shared cache.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectStore, ObjectStoreExt as _};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::transfer::{PATIENCE, allowance, failed, slow};
use super::{BadAddress, Sent, SharedLookup, address, transfer};
use crate::digest::Digest;
use crate::packed::{LARGEST_TOTAL, pack, unpack};
use crate::store::{CachedResult, ResultStore};
use crate::tier::Tier;

/// How many results are sent at the same time.
const SENT_AT_ONCE: usize = 2;

/// A cache that several machines share.
#[derive(Clone, Debug)]
pub struct SharedCache(Arc<SharedCacheState>);

#[derive(Debug)]
struct SharedCacheState {
    objects: Arc<dyn ObjectStore>,
    /// Whether this run stores its results in the shared cache.
    sends: bool,
    /// Why the shared cache is not used any more, once that is so.
    disabled: OnceLock<String>,
    sending: Mutex<JoinSet<io::Result<()>>>,
    slots: Arc<Semaphore>,
}

impl SharedCache {
    /// `address`: a folder's absolute path, `s3://BUCKET/PREFIX`, or an `http` or `https` URL. `environment`: the variables
    /// `AWS_…` and `TOKEN` with its credentials. `sends`: whether results are stored there.
    ///
    /// # Errors
    /// When the address is invalid. A server is contacted only when the cache is first used.
    pub fn open(address: &str, environment: &BTreeMap<String, String>, sends: bool) -> Result<SharedCache, BadAddress> {
        Ok(SharedCache::of(address::open(address, environment)?, sends))
    }

    fn of(objects: Arc<dyn ObjectStore>, sends: bool) -> SharedCache {
        SharedCache(Arc::new(SharedCacheState {
            objects,
            sends,
            disabled: OnceLock::new(),
            sending: Mutex::default(),
            slots: Arc::new(Semaphore::new(SENT_AT_ONCE)),
        }))
    }

    /// Fetches the first result that exists under one of the keys, and adds it to the local store.
    pub(crate) async fn fetch(&self, keys: &[(Tier, Digest)], store: &ResultStore) -> SharedLookup {
        for (tier, key) in keys {
            if self.0.disabled.get().is_some() {
                break;
            }
            match self.fetch_one(tier, key, store).await {
                Ok(None) => {}
                Ok(Some(entry)) => return SharedLookup::Found(tier.clone(), *key, entry),
                Err(error) if !is_connection_failure(&error) => return SharedLookup::Damaged(error.to_string()),
                Err(error) => return self.disable(&error).map_or(SharedLookup::NotFound, SharedLookup::Disabled),
            }
        }
        SharedLookup::NotFound
    }

    async fn fetch_one(&self, tier: &Tier, key: &Digest, store: &ResultStore) -> io::Result<Option<CachedResult>> {
        let found = match timeout(PATIENCE, self.0.objects.get(&object_path(tier, key))).await {
            Err(_) => return Err(slow()),
            Ok(Err(Error::NotFound { .. })) => return Ok(None),
            Ok(found) => found.map_err(|error| failed(&error))?,
        };
        // The server may state any size, so the time that it gets is limited.
        let deadline = Instant::now() + allowance(found.meta.size.min(LARGEST_TOTAL));
        let (store, key, runtime) = (store.clone(), *key, Handle::current());
        let incoming = transfer::Incoming::new(found.into_stream(), deadline, runtime);
        let unpacking = move || unpack(&store, &key, incoming);
        tokio::task::spawn_blocking(unpacking).await.map_err(io::Error::other)?.map(Some)
    }

    /// Sends a result of the local store in the background.
    pub(crate) fn send(&self, tier: &Tier, key: Digest, store: &ResultStore) {
        if !self.0.sends {
            return;
        }
        let (shared, place, store) = (self.clone(), object_path(tier, &key), store.clone());
        let sending = async move {
            let _slot = shared.0.slots.acquire().await;
            if let Some(why) = shared.0.disabled.get() {
                return Err(io::Error::other(why.clone()));
            }
            let (objects, runtime) = (Arc::clone(&shared.0.objects), Handle::current());
            let send = move || transfer::send(objects.as_ref(), &place, pack(&store, &key)?, &runtime);
            let sent = tokio::task::spawn_blocking(send).await.map_err(io::Error::other)?;
            if let Err(error) = &sent
                && is_connection_failure(error)
            {
                shared.disable(error);
            }
            sent
        };
        self.0.sending.lock().unwrap_or_else(PoisonError::into_inner).spawn(sending);
    }

    /// Waits until all results have been sent, or have failed.
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

    /// Disables the shared cache for the rest of the run. Returns the reason to the first caller only, so that it is
    /// reported once.
    fn disable(&self, error: &io::Error) -> Option<String> {
        let why = error.to_string();
        self.0.disabled.set(why.clone()).is_ok().then_some(why)
    }
}

fn object_path(tier: &Tier, key: &Digest) -> ObjectPath {
    let hex = key.hex();
    let (folder, name) = (hex[..2].to_owned(), format!("{}.gz", &hex[2..]));
    // Each string becomes one segment of the path: separators and dots in a tier's name are escaped.
    match tier {
        Tier::Trusted => ObjectPath::from_iter(["trusted".to_owned(), folder, name]),
        Tier::Own(tier) => ObjectPath::from_iter(["tiers".to_owned(), tier.clone(), folder, name]),
    }
}

/// Whether the cache or the connection to it failed, rather than a single result.
fn is_connection_failure(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests;
