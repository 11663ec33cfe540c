//! A separate network for a service, with one forwarded port.
//!
//! ```text
//! this machine's loopback ── listener ──> supervisor ── connects ──> the service's port
//!                           (made first)      └─ both in a network namespace with a loopback and nothing else
//! ```
//!
//! A socket stays in the namespace that it was made in. So the supervisor listens on this machine first, moves to a
//! network of its own, and from then on what it connects to, and all that the service can reach, is in there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use rustix::thread::{CapabilitySet, UnshareFlags, unshare_unsafe};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::sandbox::{drop_capabilities, internet_alone, raise_loopback};

/// The port on which a service is reached from outside of its network.
pub(super) struct ForwardedPort {
    listener: TcpListener,
    inside: u16,
    port: u16,
}

/// Why a service can't have a network of its own.
#[derive(Debug, thiserror::Error)]
#[error("can't give the service a network of its own: {step}: {source}; allow unprivileged user namespaces")]
pub(super) struct NoNetwork {
    step: &'static str,
    source: io::Error,
}

/// Moves this process to a network of its own, for good, and forwards a port to port `inside` of it. Must be called
/// while the process has one thread.
pub(super) fn enter(inside: u16) -> Result<ForwardedPort, NoNetwork> {
    let failed = |step| move |source: io::Error| NoNetwork { step, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed("listen on 127.0.0.1"))?;
    let port = listener.local_addr().map_err(failed("listen on 127.0.0.1"))?.port();
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWIPC;
    // SAFETY: the file descriptor table isn't shared: there is one thread.
    unsafe { unshare_unsafe(flags) }.map_err(io::Error::from).map_err(failed("make namespaces"))?;
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{user} {user} 1")),
        ("/proc/self/gid_map", format!("{group} {group} 1")),
    ] {
        std::fs::write(file, text).map_err(failed("set users and groups"))?;
    }
    raise_loopback().map_err(failed("raise the loopback"))?;
    // This process alone keeps what it takes to give root to the user namespace of a program with an image's root: see
    // user_namespaces(7).
    drop_capabilities(CapabilitySet::SETFCAP).map_err(failed("drop capabilities"))?;
    // The network namespace doesn't cover Unix sockets with a path, such as those of the machine's daemons.
    internet_alone().map_err(failed("filter system calls"))?;
    Ok(ForwardedPort { listener, inside, port })
}

impl ForwardedPort {
    /// The port on this machine's loopback.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Forwards connections until the handle is aborted or the process ends. Must be called within a runtime.
    pub(super) fn serve(self) -> io::Result<JoinHandle<()>> {
        self.listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let inside = SocketAddr::from((Ipv4Addr::LOCALHOST, self.inside));
        Ok(tokio::spawn(async move {
            loop {
                let Ok((mut outer, _)) = listener.accept().await else {
                    tokio::time::sleep(super::POLL).await;
                    continue;
                };
                tokio::spawn(async move {
                    // If the service isn't up yet, the connection is closed, as if the service refused it.
                    if let Ok(mut inner) = TcpStream::connect(inside).await {
                        let _ = copy_bidirectional(&mut outer, &mut inner).await;
                    }
                });
            }
        }))
    }
}
