//! The machine's connections to other hosts, which the attempts of all runs share.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::client::{SharedClient, client};
use super::dial::Dialer;
use crate::net::{JoinedLookup, SystemLookup, Upstream};

/// One HTTP client, for requests of plugins, and one dialer, for connections of programs. Neither checks grants: each
/// attempt does that before it uses them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outbound {
    pub(crate) client: SharedClient,
    pub(crate) dialer: Arc<Dialer>,
}

impl Outbound {
    /// `environment`: the variables that name proxies. Fails when one of them is invalid.
    pub(crate) fn new(environment: &BTreeMap<String, String>) -> reqwest::Result<Outbound> {
        let (upstream, lookup) = (Upstream::of(environment), Arc::new(JoinedLookup::new(Arc::new(SystemLookup))));
        let client = client(&upstream, lookup.clone())?;
        Ok(Outbound { client, dialer: Arc::new(Dialer::new(&upstream, lookup)) })
    }
}
