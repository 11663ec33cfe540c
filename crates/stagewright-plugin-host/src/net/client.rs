//! The HTTP client that all attempts share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::header::{HOST, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Identity, NoProxy, Proxy, redirect};
use stagewright_model::TlsSettings;

use crate::net::{AddressRefused, Guarded, Lookup, Upstream};

/// The timeout for establishing a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// The timeout between two parts of a response.
const SILENCE: Duration = Duration::from_secs(300);

/// An HTTP client that is created on first use: reading the certificates that the machine trusts takes longer than
/// everything else that the engine does before a stage starts, and few pipelines need them. Clones share the client.
#[derive(Clone)]
pub(crate) struct SharedClient(Arc<Lazy>);

struct Lazy {
    proxies: Vec<Proxy>,
    names: Guarded,
    client: OnceLock<Client>,
    /// The clients for Unix sockets, by the path of the socket.
    over_sockets: Mutex<BTreeMap<String, Client>>,
}

/// Why TLS settings can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFault {
    #[error("no certificate in PEM found")]
    NoCertificate,
    #[error("{0}")]
    Invalid(#[from] reqwest::Error),
}

/// A client with the proxies of `upstream`; fails when one of them is invalid. Names resolve to addresses that the guard
/// allows, except where a proxy resolves them.
pub(crate) fn client(upstream: &Upstream, lookup: Arc<dyn Lookup>) -> reqwest::Result<SharedClient> {
    let exceptions = || NoProxy::from_string(&upstream.exceptions);
    let https = upstream.https.iter().map(Proxy::https);
    let proxies = https.chain(upstream.http.iter().map(Proxy::http));
    let proxies = proxies.map(|proxy| Ok(proxy?.no_proxy(exceptions()))).collect::<reqwest::Result<_>>()?;
    let names = Guarded::new(lookup, upstream.hosts());
    Ok(SharedClient(Arc::new(Lazy { proxies, names, client: OnceLock::new(), over_sockets: Mutex::default() })))
}

impl SharedClient {
    /// Fails when TLS can't be set up.
    pub(crate) fn get(&self) -> reqwest::Result<&Client> {
        if let Some(client) = self.0.client.get() {
            return Ok(client);
        }
        let made = self.0.builder().build()?;
        Ok(self.0.client.get_or_init(|| made))
    }

    /// A client with TLS settings of its own, which shares no connections with others; the shared one without any.
    /// Fails when a certificate or a key is invalid.
    pub(crate) fn with_tls(&self, settings: &TlsSettings) -> Result<Client, TlsFault> {
        if *settings == TlsSettings::default() {
            return Ok(self.get()?.clone());
        }
        let mut builder = self.0.builder();
        if let Some(pem) = &settings.authorities {
            let certificates = Certificate::from_pem_bundle(pem.expose().as_bytes())?;
            if certificates.is_empty() {
                return Err(TlsFault::NoCertificate);
            }
            builder = builder.tls_certs_only(certificates);
        }
        if let Some(pem) = &settings.identity {
            builder = builder.identity(Identity::from_pem(pem.expose().as_bytes())?);
        }
        Ok(builder.build()?)
    }

    /// The client whose connections all go to a Unix socket.
    pub(crate) fn over(&self, socket: &str) -> reqwest::Result<Client> {
        let mut clients = self.0.over_sockets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(socket) {
            return Ok(client.clone());
        }
        // A socket has no host, for which RFC 9110, 7.2 demands an empty header. Caddy's administration refuses every other.
        let no_host = HeaderMap::from_iter([(HOST, HeaderValue::from_static(""))]);
        // Without TLS, so that the machine's certificates needn't be read.
        let client = self.0.builder().default_headers(no_host).tls_certs_only([]).unix_socket(socket).build()?;
        clients.insert(socket.to_owned(), client.clone());
        Ok(client)
    }
}

impl Lazy {
    fn builder(&self) -> reqwest::ClientBuilder {
        // Fails when a provider is installed already, which then is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder()
            .user_agent(concat!("stagewright/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .dns_resolver(self.names.clone())
            .no_proxy();
        self.proxies.iter().cloned().fold(builder, reqwest::ClientBuilder::proxy)
    }
}

/// The refused address, if that is why the connection failed.
pub(crate) fn refused_address(error: &reqwest::Error) -> Option<&AddressRefused> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
impl SharedClient {
    /// A client that trusts one authority instead of those of the machine.
    pub(super) fn trusting(lookup: Arc<dyn Lookup>, authority: &[u8]) -> SharedClient {
        let shared = client(&Upstream::default(), lookup).unwrap();
        let authority = reqwest::Certificate::from_der(authority).unwrap();
        let made = shared.0.builder().tls_certs_only([authority]).build().unwrap();
        shared.0.client.set(made).unwrap();
        shared
    }
}
