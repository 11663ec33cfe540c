//! Forwards granted ports of this machine's loopback into a sandbox, which has a loopback of its own.

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

/// Forwards connections from `listener` to `to` until the handle is dropped, which also closes them.
///
/// `to` must be granted with its port, or be a service of the attempt. Each connection takes one of the guard's permits; it
/// is closed if none becomes free, or nothing listens at `to`. There is no idle timeout, since connections to databases
/// are idle for long. With `authenticated`, requests are forwarded instead of bytes, as by the proxy. Must be called within the async runtime.
pub(crate) fn forward(
    listener: TcpListener,
    to: SocketAddr,
    egress: Arc<EgressGuard>,
    authenticated: Option<AuthenticatedOrigin>,
) -> Result<Background, CapabilityError> {
    egress.forward(to)?;
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
                        let (egress, authenticated) = (egress.clone(), authenticated.clone());
                        connections.spawn(async move {
                            match authenticated {
                                Some(authenticated) => serve(program, &egress, &authenticated).await,
                                None => transfer(program, to).await,
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

async fn serve(program: TcpStream, egress: &EgressGuard, authenticated: &AuthenticatedOrigin) {
    let AuthenticatedOrigin { origin, credentials } = authenticated;
    let (program, activity) = WatchedStream::new(program);
    tokio::select! {
        () = authenticated::serve(program, origin, egress, credentials) => {}
        () = activity.silent_for(IDLE) => {}
    }
}
