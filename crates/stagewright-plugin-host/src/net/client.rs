//! The HTTP client that all attempts share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Client, NoProxy, Proxy, redirect};

use crate::net::{Guarded, Lookup, Upstream};

/// To get a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// Between two pieces of an answer.
const SILENCE: Duration = Duration::from_secs(300);

/// Made when it is first asked for: to read the certificates that the machine trusts takes longer than all else that
/// the engine does before a stage starts, and few pipelines need them.
#[derive(Clone)]
pub(crate) struct SharedClient(Arc<Lazy>);

struct Lazy {
    proxies: Vec<Proxy>,
    names: Guarded,
    client: OnceLock<Client>,
}

/// Proxies are those of `upstream`, and an error is about them. Names lead to what the guard lets through, and that is
/// what is connected to; where a proxy is in between, it resolves.
pub(crate) fn client(upstream: &Upstream, lookup: Arc<dyn Lookup>) -> reqwest::Result<SharedClient> {
    let exceptions = || NoProxy::from_string(&upstream.exceptions);
    let https = upstream.https.iter().map(Proxy::https);
    let proxies = https.chain(upstream.http.iter().map(Proxy::http));
    let proxies = proxies.map(|proxy| Ok(proxy?.no_proxy(exceptions()))).collect::<reqwest::Result<_>>()?;
    let names = Guarded::new(lookup, upstream.hosts());
    Ok(SharedClient(Arc::new(Lazy { proxies, names, client: OnceLock::new() })))
}

impl SharedClient {
    /// Fails when TLS can't be set up.
    pub(crate) fn get(&self) -> reqwest::Result<&Client> {
        if let Some(client) = self.0.client.get() {
            return Ok(client);
        }
        let made = self.0.make()?;
        Ok(self.0.client.get_or_init(|| made))
    }
}

impl Lazy {
    fn make(&self) -> reqwest::Result<Client> {
        // Fails when somebody has chosen a provider before, and then there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder()
            .user_agent(concat!("stagewright/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .dns_resolver(self.names.clone())
            .no_proxy();
        self.proxies.iter().cloned().fold(builder, reqwest::ClientBuilder::proxy).build()
    }
}
