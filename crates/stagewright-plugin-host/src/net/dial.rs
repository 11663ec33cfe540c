//! Connects to hosts for the programs of a stage: directly to an address that the guard allows, or through the proxy that
//! the engine is configured to use.
//!
//! Grants aren't checked here. An upstream proxy must be an http one, and is used with HTTP/1.1.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{HOST, PROXY_AUTHORIZATION};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use stagewright_model::Origin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::address::AddressRefused;
use super::background::Background;
use super::resolve::{Lookup, ResolveError, addresses};
use super::upstream::{Upstream, intercept};

/// The timeout for establishing a connection, including all addresses of the host and the response of a proxy.
const CONNECT: Duration = Duration::from_secs(30);

/// A connection, direct or through a proxy.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Why a connection could not be established.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error(transparent)]
    Refused(#[from] AddressRefused),
    #[error("could not look up `{host}`: {source}")]
    Lookup { host: String, source: io::Error },
    #[error("could not connect to {host}: {source}")]
    Connect { host: String, source: io::Error },
    #[error("connecting to {host} timed out after {} s", CONNECT.as_secs())]
    TimedOut { host: String },
    #[error("could not use the proxy {proxy}: {why}")]
    Proxy { proxy: String, why: String },
}

/// Establishes connections; shared by all attempts.
pub(crate) struct Dialer {
    lookup: Arc<dyn Lookup>,
    proxies: Matcher,
}

impl Dialer {
    pub(crate) fn new(upstream: &Upstream, lookup: Arc<dyn Lookup>) -> Dialer {
        Dialer { lookup, proxies: upstream.matcher() }
    }

    /// Connects for any protocol. The proxy for https is used, since tunnels are what it is for.
    pub(super) async fn tunnel(&self, origin: &Origin) -> Result<Box<dyn Duplex>, DialError> {
        let work = async {
            match intercept(&self.proxies, "https", origin.host(), origin.port()) {
                None => Ok(Box::new(self.direct(origin).await?) as Box<dyn Duplex>),
                Some(proxy) => through(&proxy, origin).await,
            }
        };
        within(origin, work).await
    }

    /// Connects for plain HTTP. If a proxy is returned, requests must be in absolute form and carry its authorisation.
    pub(super) async fn plain(&self, origin: &Origin) -> Result<(TcpStream, Option<Intercept>), DialError> {
        let work = async {
            match intercept(&self.proxies, "http", origin.host(), origin.port()) {
                None => Ok((self.direct(origin).await?, None)),
                Some(proxy) => Ok((to_proxy(&proxy).await?, Some(proxy))),
            }
        };
        within(origin, work).await
    }

    async fn direct(&self, origin: &Origin) -> Result<TcpStream, DialError> {
        let found = match origin.address() {
            Some(address) => vec![address],
            None => addresses(&*self.lookup, origin.host()).await.map_err(|error| match error {
                ResolveError::Refused(refused) => refused.into(),
                ResolveError::Lookup(source) => DialError::Lookup { host: origin.host().to_owned(), source },
            })?,
        };
        // The addresses are tried one after the other, and share the time equally.
        let each = CONNECT / u32::try_from(found.len().max(1)).unwrap_or(u32::MAX);
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for address in found {
            match timeout(each, TcpStream::connect((address, origin.port()))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(DialError::Connect { host: format!("{}:{}", origin.host(), origin.port()), source: failed })
    }
}

async fn within<T>(origin: &Origin, work: impl Future<Output = Result<T, DialError>>) -> Result<T, DialError> {
    match timeout(CONNECT, work).await {
        Ok(result) => result,
        Err(_) => Err(DialError::TimedOut { host: format!("{}:{}", origin.host(), origin.port()) }),
    }
}

/// The proxy's URL without its user and password.
fn shown(proxy: &Intercept) -> String {
    let uri = proxy.uri();
    format!("{}://{}", uri.scheme_str().unwrap_or("http"), uri.authority().map_or("", |authority| authority.as_str()))
}

/// Connects to a proxy. Its address isn't checked, because the operator configured it.
async fn to_proxy(proxy: &Intercept) -> Result<TcpStream, DialError> {
    let failed = |why: String| DialError::Proxy { proxy: shown(proxy), why };
    let uri = proxy.uri();
    if uri.scheme_str() != Some("http") {
        return Err(failed("programs can only use a proxy whose URL begins with http://".to_owned()));
    }
    let host = uri.host().ok_or_else(|| failed("its URL has no host".to_owned()))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await.map_err(|error| failed(error.to_string()))
}

/// Opens a tunnel through a proxy (RFC 9110, section 9.3.6). The first bytes of the host may arrive together with the
/// proxy's response, and aren't lost.
async fn through(proxy: &Intercept, origin: &Origin) -> Result<Box<dyn Duplex>, DialError> {
    let failed = |why: &dyn std::fmt::Display| DialError::Proxy { proxy: shown(proxy), why: why.to_string() };
    let stream = to_proxy(proxy).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let _connection = Background::spawn(async move {
        // Its errors are reported by the request.
        let _ = connection.with_upgrades().await;
    });
    let authority = format!("{}:{}", origin.host(), origin.port());
    let mut request = Request::builder().method(Method::CONNECT).uri(&authority).header(HOST, &authority);
    if let Some(authorization) = proxy.basic_auth() {
        request = request.header(PROXY_AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    if answer.status() != StatusCode::OK {
        return Err(failed(&format!("it responded with {} to CONNECT {authority}", answer.status())));
    }
    let tunnel = hyper::upgrade::on(answer).await.map_err(|error| failed(&error))?;
    Ok(Box::new(TokioIo::new(tunnel)))
}
