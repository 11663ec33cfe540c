//! One replica, and the connections to it.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The body of a request to a replica.
pub(super) type RequestBody = Either<Empty<Bytes>, Incoming>;

/// How long a replica may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept. Common servers close one after 5 s or later.
const IDLE: Duration = Duration::from_secs(3);
/// The most unused connections to a replica.
const MOST_IDLE: usize = 64;

/// A replica of a release.
pub(super) struct ReplicaUpstream {
    port: u16,
    in_flight: AtomicUsize,
    /// Connections without a request, each with the time since when.
    idle: Mutex<Vec<(Instant, SendRequest<RequestBody>)>>,
}

impl ReplicaUpstream {
    pub(super) fn new(port: u16) -> ReplicaUpstream {
        ReplicaUpstream { port, in_flight: AtomicUsize::new(0), idle: Mutex::default() }
    }

    /// How many requests it hasn't answered completely, including connections that were upgraded.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> io::Result<SendRequest<RequestBody>> {
        let stream = timeout(CONNECT, TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))).await??;
        stream.set_nodelay(true)?;
        let handshake = Builder::new().preserve_header_case(true).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        // Its errors reach those who wait for a response.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// A connection that was used before; none if there is none, or if the replica has closed them all.
    pub(super) fn reuse(&self) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.idle();
        std::iter::from_fn(|| idle.pop()).map(|(_, sender)| sender).find(SendRequest::is_ready)
    }

    /// Keeps a connection for other requests, once its response has been read to the end.
    pub(super) fn keep(self: &Arc<ReplicaUpstream>, mut sender: SendRequest<RequestBody>) {
        let upstream = self.clone();
        tokio::spawn(async move {
            if sender.ready().await.is_ok() {
                let mut idle = upstream.idle();
                if idle.len() < MOST_IDLE {
                    idle.push((Instant::now(), sender));
                }
            }
        });
    }

    /// Closes connections that haven't been used for a while.
    pub(super) fn close_idle(&self) {
        self.idle().retain(|(since, sender)| since.elapsed() < IDLE && sender.is_ready());
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, SendRequest<RequestBody>)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that a replica hasn't answered completely.
pub(super) struct InFlight(Arc<ReplicaUpstream>);

impl InFlight {
    pub(super) fn begin(upstream: &Arc<ReplicaUpstream>) -> InFlight {
        upstream.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(upstream.clone())
    }

    pub(super) fn upstream(&self) -> &Arc<ReplicaUpstream> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}
