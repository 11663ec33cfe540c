//! The client that all attempts share.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, NoProxy, Proxy, redirect};

use crate::net::{Guarded, Lookup, Upstream};

/// To get a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// Between two pieces of an answer.
const SILENCE: Duration = Duration::from_secs(300);

/// Proxies are those of `upstream`. Names lead to what the guard lets through, and that is what is connected to; where a
/// proxy is in between, it resolves.
pub(crate) fn client(upstream: &Upstream, lookup: Arc<dyn Lookup>) -> reqwest::Result<Client> {
    // Fails when somebody has chosen a provider before, and then there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("stagewright/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .dns_resolver(Guarded::new(lookup, upstream.hosts()))
        .no_proxy();
    let exceptions = || NoProxy::from_string(&upstream.exceptions);
    if let Some(url) = &upstream.https {
        builder = builder.proxy(Proxy::https(url)?.no_proxy(exceptions()));
    }
    if let Some(url) = &upstream.http {
        builder = builder.proxy(Proxy::http(url)?.no_proxy(exceptions()));
    }
    builder.build()
}
