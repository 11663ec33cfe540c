//! Tunnels: bytes both ways between a program and a granted host.
//!
//! What is spoken in a tunnel isn't seen, but for its first bytes. When they are TLS, the host that is asked for must be
//! the one that the tunnel was opened to: many a host stands at the same address as others, which the grant doesn't
//! name (domain fronting). TLS that names no host is let through to an address only: a name was granted, and without it
//! the server would choose. Within TLS a program can still ask a server for another of its sites, if the server gives
//! it; no one can see that without breaking the encryption. The same goes for what isn't TLS, and for TLS that begins
//! later on (`STARTTLS`).

use std::io;

use hyper::Request;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use stagewright_model::Origin;
use tokio::io::{AsyncRead, AsyncWriteExt as _, copy, split};

use crate::error::{CapabilityError, ErrorCode};
use crate::net::dial::Duplex;
use crate::net::egress::EgressGuard;
use crate::net::hello::{self, Greeting};

/// A fatal TLS alert, `access_denied` (RFC 8446, section 6): programs show it better than a connection that just ends.
const ACCESS_DENIED: [u8; 7] = [21, 3, 1, 0, 2, 2, 49];

/// One that is open on the host's side.
pub(super) struct Tunnel {
    origin: Origin,
    program: OnUpgrade,
    host: Box<dyn Duplex>,
}

/// Why bytes stopped going from the program to the host.
enum Broken {
    Connection,
    /// The host that the program asked for, in words.
    Fronted(String),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Broken {
        Broken::Connection
    }
}

impl Tunnel {
    pub(super) async fn open(mut request: Request<Incoming>, egress: &EgressGuard) -> Result<Tunnel, CapabilityError> {
        let authority = request.uri().authority().map_or("", |authority| authority.as_str());
        let origin = Origin::of_tunnel(authority).ok_or_else(|| {
            CapabilityError::new(ErrorCode::InvalidArgument, format!("`{authority}` isn't a host and a port"))
                .with_help("ask with `CONNECT HOST:PORT`")
        })?;
        egress.tunnel(&origin)?;
        let host = egress.dialer.tunnel(&origin).await.map_err(|error| egress.failed(&origin, &error))?;
        Ok(Tunnel { origin, program: hyper::upgrade::on(&mut request), host })
    }

    /// Until both sides have said all, or one breaks off.
    pub(super) async fn run(self, egress: &EgressGuard) {
        let Ok(program) = self.program.await else { return };
        let (mut from_program, mut to_program) = split(TokioIo::new(program));
        let (mut from_host, mut to_host) = split(self.host);
        let up = async {
            let first = greeting(&mut from_program, &self.origin).await?;
            to_host.write_all(&first).await?;
            drop(first);
            copy(&mut from_program, &mut to_host).await?;
            Ok(to_host.shutdown().await?)
        };
        // At the same time: of some protocols it is the host that greets.
        let down = async {
            copy(&mut from_host, &mut to_program).await?;
            Ok::<_, Broken>(to_program.shutdown().await?)
        };
        if let Err(Broken::Fronted(asked)) = tokio::try_join!(up, down) {
            egress.fronted(&self.origin, &asked);
            // The program may be gone already.
            let _ = to_program.write_all(&ACCESS_DENIED).await;
            let _ = to_program.shutdown().await;
        }
    }
}

/// What the program says first, if it may be passed on to `origin`.
async fn greeting(program: &mut (impl AsyncRead + Unpin), origin: &Origin) -> Result<Vec<u8>, Broken> {
    let (first, greeting) = hello::read(program).await?;
    match greeting {
        Greeting::Tls(Some(name)) if name != origin.host() => Err(Broken::Fronted(format!("`{name}`"))),
        Greeting::Tls(None) if origin.address().is_none() => Err(Broken::Fronted("no host".to_owned())),
        Greeting::Unclear => Err(Broken::Fronted("a host that can't be made out".to_owned())),
        Greeting::Tls(_) | Greeting::Other => Ok(first),
    }
}
