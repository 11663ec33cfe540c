//! Origins that an attempt may call beyond its permissions: services that it started itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::Url;
use stagewright_model::Origin;

use crate::error::CapabilityError;
use crate::service::Endpoint;

/// The origins, each with the release that has to give the answers; none for a port of the attempt's own programs.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnOrigins(Arc<Mutex<HashMap<Origin, Option<Endpoint>>>>);

impl OwnOrigins {
    /// `address` as in `http://127.0.0.1:41873`.
    pub(crate) fn add(&self, address: &str) {
        self.insert(address, None);
    }

    /// As [`OwnOrigins::add`], of a release: another program at that address isn't believed.
    pub(crate) fn add_release(&self, address: &str, endpoint: Endpoint) {
        self.insert(address, Some(endpoint));
    }

    fn insert(&self, address: &str, endpoint: Option<Endpoint>) {
        if let Some(origin) = Url::parse(address).ok().as_ref().and_then(Origin::of) {
            self.lock().insert(origin, endpoint);
        }
    }

    /// An error when `origin` is a release's, and another program or none accepts connections there.
    pub(crate) async fn check(&self, origin: &Origin) -> Result<(), CapabilityError> {
        let endpoint = self.lock().get(origin).cloned().flatten();
        match endpoint {
            Some(endpoint) => Ok(endpoint.check().await?),
            None => Ok(()),
        }
    }

    pub(crate) fn contains(&self, origin: &Origin) -> bool {
        self.lock().contains_key(origin)
    }

    /// Whether one of them has the host and the port of `origin`.
    pub(crate) fn has_place(&self, origin: &Origin) -> bool {
        self.lock().keys().any(|own| own.is_same_place(origin))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, Option<Endpoint>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
