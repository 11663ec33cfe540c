//! The origins that an attempt may call without a grant: services that it started itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::Url;
use stagewright_model::Origin;

use crate::error::CapabilityError;
use crate::service::Endpoint;

/// The origins, each with the endpoint of its release; none for a port of a rehearsal's service. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnOrigins(Arc<Mutex<HashMap<Origin, Option<Endpoint>>>>);

impl OwnOrigins {
    /// Adds an address such as `http://127.0.0.1:41873`.
    pub(crate) fn add(&self, address: &str) {
        self.insert(address, None);
    }

    /// Adds the address of a release; [`OwnOrigins::check`] then makes sure that the release itself listens there.
    pub(crate) fn add_release(&self, address: &str, endpoint: Endpoint) {
        self.insert(address, Some(endpoint));
    }

    fn insert(&self, address: &str, endpoint: Option<Endpoint>) {
        if let Some(origin) = Url::parse(address).ok().as_ref().and_then(Origin::of) {
            self.lock().insert(origin, endpoint);
        }
    }

    /// Fails when `origin` belongs to a release, but another program, or none, listens there.
    ///
    /// A release can end at any time, and another program on this machine can then take its port. So callers check before
    /// they send a request, which may carry data for the release, and again before they trust the response.
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

    /// Whether one of the origins has the host and the port of `origin`.
    pub(crate) fn has_place(&self, origin: &Origin) -> bool {
        self.lock().keys().any(|own| own.is_same_place(origin))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, Option<Endpoint>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
