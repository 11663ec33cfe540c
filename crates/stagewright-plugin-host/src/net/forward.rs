//! Forwards granted ports into a sandbox: those of this machine's loopback, since the sandbox has a loopback of its own, and
//! those of other hosts, for programs that know of no proxy, as clients of databases.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stagewright_model::Origin;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::background::Background;
use super::credentials::ProxyCredentials;
use super::egress::EgressGuard;
use super::idle::WatchedStream;
use super::proxy::{IDLE, authenticated};
use crate::error::CapabilityError;

/// The pause after a connection could not be accepted, which happens when the engine runs out of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A forwarded port that is the host of a secret, or an origin of a credential.
#[derive(Clone)]
pub(crate) struct AuthenticatedOrigin {
    pub(crate) origin: Origin,
    pub(crate) credentials: Arc<ProxyCredentials>,
}

/// Where connections are forwarded to.
#[derive(Clone)]
pub(crate) enum ForwardTarget {
    /// A port of this machine's loopback.
    Loopback(SocketAddr),
    /// One to which requests are forwarded instead of bytes, as by the proxy.
    Authenticated(SocketAddr, AuthenticatedOrigin),
    /// A port of another host.
    Host(Origin),
}

/// Forwards connections from `listener` until the handle is dropped, which also closes them.
///
/// `to` must be granted with its port, or be a service of the attempt. Each connection takes one of the guard's permits; it
/// is closed if none becomes free, or nothing listens at `to`. There is no idle timeout, since connections to databases
/// are idle for long. Must be called within the async runtime.
pub(crate) fn forward(
    listener: TcpListener,
    to: ForwardTarget,
    egress: Arc<EgressGuard>,
) -> Result<Background, CapabilityError> {
    match &to {
        ForwardTarget::Loopback(address) | ForwardTarget::Authenticated(address, _) => egress.forward(*address)?,
        ForwardTarget::Host(origin) => egress.tunnel(origin)?,
    }
    Ok(Background::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((program, _)) = accepted else {
                        sleep(PAUSE).await;
                        continue;
                    };
                    if let Ok(place) = egress.place().await {
                        let (egress, to) = (egress.clone(), to.clone());
                        connections.spawn(async move {
                            match to {
                                ForwardTarget::Loopback(address) => transfer(program, address).await,
                                ForwardTarget::Authenticated(_, with) => serve(program, &egress, &with).await,
                                ForwardTarget::Host(origin) => tunnel(program, &egress, &origin).await,
                            }
                            drop(place);
                        });
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }))
}

async fn transfer(mut program: TcpStream, to: SocketAddr) {
    if let Ok(mut host) = TcpStream::connect(to).await {
        // An error means that one side reset the connection.
        let _ = copy_bidirectional(&mut program, &mut host).await;
    }
}

async fn tunnel(mut program: TcpStream, egress: &EgressGuard, to: &Origin) {
    match egress.dialer.tunnel(to).await {
        Ok(mut host) => {
            let _ = copy_bidirectional(&mut program, &mut host).await;
        }
        // The program learns only that the connection has ended.
        Err(error) => egress.not_forwarded(to, &error),
    }
}

async fn serve(program: TcpStream, egress: &EgressGuard, authenticated: &AuthenticatedOrigin) {
    let AuthenticatedOrigin { origin, credentials } = authenticated;
    let (program, activity) = WatchedStream::new(program);
    tokio::select! {
        () = authenticated::serve(program, origin, egress, credentials) => {}
        () = activity.silent_for(IDLE) => {}
    }
}
