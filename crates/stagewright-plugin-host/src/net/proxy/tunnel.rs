//! Tunnels between a program and a granted host.
//!
//! Only the first bytes of a tunnel are inspected. If they are TLS, the requested host must be the one that the tunnel was
//! opened to: many hosts share an address with others, which the grant doesn't name (domain fronting). TLS without a host
//! name is only let through to a granted address, because the server would choose the site where a name was granted.
//! Within TLS, a program can still request another site of the same server, if the server allows it; that can't be seen
//! without breaking the encryption, which only happens for hosts of a credential (`authenticated`). The same holds for other protocols, and for TLS that begins later (`STARTTLS`).

use std::io;

use hyper::Request;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use stagewright_model::Origin;
use tokio::io::{AsyncRead, AsyncWriteExt as _, copy, split};

use super::{ACCESS_DENIED, authenticated};
use crate::error::{CapabilityError, ErrorCode};
use crate::net::credentials::ProxyCredentials;
use crate::net::dial::Duplex;
use crate::net::egress::EgressGuard;
use crate::net::hello::{self, Greeting};

/// A tunnel that begins when the program has received the response to its request.
pub(super) struct Tunnel<'c> {
    origin: Origin,
    program: OnUpgrade,
    end: TunnelEnd<'c>,
}

/// What a tunnel leads to.
enum TunnelEnd<'c> {
    /// The host, to which the connection is established.
    Host(Box<dyn Duplex>),
    /// The proxy itself, which has a credential for the host.
    Proxy(&'c ProxyCredentials),
}

/// Why the transfer from the program to the host ended early.
enum Broken {
    Connection,
    /// The program requested another host; the text describes it.
    Fronted(String),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Broken {
        Broken::Connection
    }
}

impl<'c> Tunnel<'c> {
    pub(super) async fn open(
        mut request: Request<Incoming>,
        egress: &EgressGuard,
        credentials: Option<&'c ProxyCredentials>,
    ) -> Result<Tunnel<'c>, CapabilityError> {
        let authority = request.uri().authority().map_or("", |authority| authority.as_str());
        let origin = Origin::of_tunnel(authority).ok_or_else(|| {
            CapabilityError::new(ErrorCode::InvalidArgument, format!("`{authority}` isn't a host and a port"))
                .with_help("request `CONNECT HOST:PORT`")
        })?;
        egress.tunnel(&origin)?;
        let encrypted = Origin::of_url(&format!("https://{}:{}", origin.host(), origin.port()));
        let authenticated = credentials
            .zip(encrypted)
            .filter(|(credentials, encrypted)| egress.grants(encrypted) && credentials.has_for(encrypted));
        let program = hyper::upgrade::on(&mut request);
        if let Some((credentials, origin)) = authenticated {
            return Ok(Tunnel { origin, program, end: TunnelEnd::Proxy(credentials) });
        }
        let host = egress.dialer.tunnel(&origin).await.map_err(|error| egress.failed(&origin, &error))?;
        Ok(Tunnel { origin, program, end: TunnelEnd::Host(host) })
    }

    /// Transfers bytes until both sides have finished, or one fails.
    pub(super) async fn run(self, egress: &EgressGuard) {
        let Ok(program) = self.program.await else { return };
        match self.end {
            TunnelEnd::Host(host) => transfer(TokioIo::new(program), host, &self.origin, egress).await,
            TunnelEnd::Proxy(credentials) => {
                authenticated::serve(TokioIo::new(program), &self.origin, egress, credentials).await;
            }
        }
    }
}

async fn transfer(program: TokioIo<Upgraded>, host: Box<dyn Duplex>, origin: &Origin, egress: &EgressGuard) {
    let (mut from_program, mut to_program) = split(program);
    let (mut from_host, mut to_host) = split(host);
    let up = async {
        // Nothing is forwarded before the greeting is complete and checked: a part of a ClientHello could already be
        // enough for the host to choose another site.
        let first = greeting(&mut from_program, origin).await?;
        to_host.write_all(&first).await?;
        drop(first);
        copy(&mut from_program, &mut to_host).await?;
        Ok(to_host.shutdown().await?)
    };
    // Both directions run at the same time, since in some protocols the host sends first.
    let down = async {
        copy(&mut from_host, &mut to_program).await?;
        Ok::<_, Broken>(to_program.shutdown().await?)
    };
    if let Err(Broken::Fronted(asked)) = tokio::try_join!(up, down) {
        egress.fronted(origin, &asked);
        // The program may have closed the connection already.
        let _ = to_program.write_all(&ACCESS_DENIED).await;
        let _ = to_program.shutdown().await;
    }
}

/// The program's first bytes, if they may be forwarded to `origin`.
async fn greeting(program: &mut (impl AsyncRead + Unpin), origin: &Origin) -> Result<Vec<u8>, Broken> {
    let (first, greeting) = hello::read(program).await?;
    match greeting {
        Greeting::Tls(Some(name)) if name != origin.host() => Err(Broken::Fronted(format!("`{name}`"))),
        Greeting::Tls(None) if origin.address().is_none() => Err(Broken::Fronted("no host".to_owned())),
        Greeting::Unclear => Err(Broken::Fronted("an unrecognisable host".to_owned())),
        Greeting::Tls(_) | Greeting::Other => Ok(first),
    }
}
