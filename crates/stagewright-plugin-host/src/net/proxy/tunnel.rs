//! Tunnels between a program and a granted host.
//!
//! Only the first bytes of a tunnel are inspected. If they are TLS, the requested host must be the one that the tunnel was
//! opened to: many hosts share an address with others, which the grant doesn't name (domain fronting). TLS without a host
//! name is only let through to a granted address, because the server would choose the site where a name was granted.
//! Within TLS, a program can still request another site of the same server, if the server allows it; that can't be seen
//! without breaking the encryption. The same holds for other protocols, and for TLS that begins later (`STARTTLS`).

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

/// A fatal TLS alert, `access_denied` (RFC 8446, section 6), which gives a better message in programs than a connection
/// that is merely closed.
const ACCESS_DENIED: [u8; 7] = [21, 3, 1, 0, 2, 2, 49];

/// A tunnel whose connection to the host is established.
pub(super) struct Tunnel {
    origin: Origin,
    program: OnUpgrade,
    host: Box<dyn Duplex>,
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

impl Tunnel {
    pub(super) async fn open(mut request: Request<Incoming>, egress: &EgressGuard) -> Result<Tunnel, CapabilityError> {
        let authority = request.uri().authority().map_or("", |authority| authority.as_str());
        let origin = Origin::of_tunnel(authority).ok_or_else(|| {
            CapabilityError::new(ErrorCode::InvalidArgument, format!("`{authority}` isn't a host and a port"))
                .with_help("request `CONNECT HOST:PORT`")
        })?;
        egress.tunnel(&origin)?;
        let host = egress.dialer.tunnel(&origin).await.map_err(|error| egress.failed(&origin, &error))?;
        Ok(Tunnel { origin, program: hyper::upgrade::on(&mut request), host })
    }

    /// Transfers bytes until both sides have finished, or one fails.
    pub(super) async fn run(self, egress: &EgressGuard) {
        let Ok(program) = self.program.await else { return };
        let (mut from_program, mut to_program) = split(TokioIo::new(program));
        let (mut from_host, mut to_host) = split(self.host);
        let up = async {
            // Nothing is forwarded before the greeting is complete and checked: a part of a ClientHello could already be
            // enough for the host to choose another site.
            let first = greeting(&mut from_program, &self.origin).await?;
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
            egress.fronted(&self.origin, &asked);
            // The program may have closed the connection already.
            let _ = to_program.write_all(&ACCESS_DENIED).await;
            let _ = to_program.shutdown().await;
        }
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
