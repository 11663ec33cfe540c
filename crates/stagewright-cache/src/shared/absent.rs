//! Takes the place of the client in programs that are built without the feature `shared`.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::{BadAddress, Sent, SharedLookup, without_user};
use crate::digest::Digest;
use crate::store::ResultStore;
use crate::tier::Tier;

/// A cache that several machines share. This program was built without its client, so no value of this type exists.
#[derive(Clone, Debug)]
pub struct SharedCache(Infallible);

impl SharedCache {
    /// Refuses every address.
    ///
    /// # Errors
    /// Always.
    pub fn open(
        address: &str,
        _environment: &BTreeMap<String, String>,
        _sends: bool,
    ) -> Result<SharedCache, BadAddress> {
        Err(BadAddress {
            address: without_user(address),
            why: "this build of stagewright doesn't support shared caches".to_owned(),
            help: "build it with `cargo build --package stagewright-cli --features shared-cache`; for `cargo xtask`, set \
                   STAGEWRIGHT_FEATURES=shared-cache",
        })
    }

    pub(crate) async fn fetch(&self, _keys: &[(Tier, Digest)], _store: &ResultStore) -> SharedLookup {
        match self.0 {}
    }

    pub(crate) fn send(&self, _tier: &Tier, _key: Digest, _store: &ResultStore) {
        match self.0 {}
    }

    pub(crate) async fn finish_sending(&self) -> Sent {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_the_client_refuses_an_address_and_names_the_feature() {
        for address in ["/srv/cache", "s3://bucket/prefix", "https://me:password@cache.example"] {
            let refused = SharedCache::open(address, &BTreeMap::new(), true).expect_err("no client was built");
            assert!(refused.to_string().contains("doesn't support shared caches"), "{refused}");
            assert!(refused.help.contains("--features shared-cache"), "{}", refused.help);
            assert!(!refused.to_string().contains("password"), "{refused}");
        }
    }
}
