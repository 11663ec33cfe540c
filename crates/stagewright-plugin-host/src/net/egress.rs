//! The guard between the programs of one attempt and the network. It decides which hosts they may connect to, and how
//! many connections may be open at a time.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use stagewright_model::Origin;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::dial::{DialError, Dialer};
use crate::error::{CapabilityError, ErrorCode};
use crate::net::{AddressRefused, OwnOrigins};
use crate::policy::Policy;

/// The most denials that are reported: a program that tries endless names must not fill the log.
const REPORTED: usize = 1000;

/// How long a connection beyond the limit waits for another one to end. npm before version 10 opens a connection through a
/// proxy for each of its downloads, hundreds at a time, and closes each as soon as it can.
pub(crate) const WAIT: Duration = Duration::from_secs(10);

/// Called with each denial, and with each failure that programs don't see, once for each origin. Must not block.
pub(crate) type DenialReport = Arc<dyn Fn(&CapabilityError) + Send + Sync>;

/// The guard of one attempt.
pub(crate) struct EgressGuard {
    policy: Arc<Policy>,
    own: OwnOrigins,
    /// The origins to which the proxy signs requests. A credential grants these. Set once, before the first connection.
    signed: OnceLock<Vec<Origin>>,
    pub(super) dialer: Arc<Dialer>,
    report: DenialReport,
    /// The origins whose denial was reported.
    reported: Mutex<HashSet<String>>,
    connections: Arc<Semaphore>,
    limit: usize,
    wait: Duration,
}

impl EgressGuard {
    /// `connections`: the most that may be open at a time, for tunnels, requests and forwarded ports together. `wait`: see
    /// [`WAIT`].
    pub(crate) fn new(
        policy: Arc<Policy>,
        own: OwnOrigins,
        dialer: Arc<Dialer>,
        report: DenialReport,
        connections: usize,
        wait: Duration,
    ) -> EgressGuard {
        let limit = connections.min(Semaphore::MAX_PERMITS);
        let connections = Arc::new(Semaphore::new(limit));
        let signed = OnceLock::new();
        EgressGuard { policy, own, signed, dialer, report, reported: Mutex::default(), connections, limit, wait }
    }

    /// Lets programs reach the origins to which the proxy signs requests.
    pub(crate) fn admit_signed<'o>(&self, origins: impl Iterator<Item = &'o Origin>) {
        let _ = self.signed.set(origins.cloned().collect());
    }

    /// The origins on a port of this machine's loopback to which the proxy signs requests.
    pub(crate) fn signed_on_loopback(&self, address: SocketAddr) -> impl Iterator<Item = Origin> {
        self.signed().iter().filter(move |origin| origin.on_loopback() == Some(address)).cloned()
    }

    fn signed(&self) -> &[Origin] {
        self.signed.get().map_or(&[], Vec::as_slice)
    }

    /// Checks that a plain request may be sent to `origin`.
    pub(super) fn request(&self, origin: &Origin) -> Result<(), CapabilityError> {
        if self.own.contains(origin) || self.signed().contains(origin) {
            return Ok(());
        }
        self.policy.origin(origin).map_err(|denied| self.report_once(origin, denied))
    }

    /// Whether the stage's own grants allow requests to `origin`; a denial isn't reported. A service that the attempt itself
    /// has started needs no grant, and isn't the host of a secret: it is the stage's own code.
    pub(super) fn grants(&self, origin: &Origin) -> bool {
        !self.own.contains(origin) && (self.signed().contains(origin) || self.policy.origin(origin).is_ok())
    }

    /// Checks that a tunnel may be opened to `origin`.
    pub(super) fn tunnel(&self, origin: &Origin) -> Result<(), CapabilityError> {
        if self.own.has_place(origin) || self.signed().iter().any(|signed| signed.is_same_place(origin)) {
            return Ok(());
        }
        self.policy.tunnel(origin).map_err(|denied| self.report_once(origin, denied))
    }

    /// Checks that connections may be forwarded to `to` on this machine's loopback.
    pub(super) fn forward(&self, to: SocketAddr) -> Result<(), CapabilityError> {
        if self.policy.loopback_ports().contains(&to) || self.signed_on_loopback(to).next().is_some() {
            return Ok(());
        }
        let origin = Origin::of_tunnel(&to.to_string()).filter(Origin::is_loopback).ok_or_else(|| {
            CapabilityError::new(ErrorCode::InvalidArgument, format!("{to} isn't a port of this machine's loopback"))
        })?;
        self.tunnel(&origin)
    }

    /// The error for a program whose connection to `origin` failed. A refused address counts as a denial.
    pub(super) fn failed(&self, origin: &Origin, error: &DialError) -> CapabilityError {
        if let DialError::Refused(refused) = error {
            return self.refused(origin, refused);
        }
        let code = match error {
            DialError::TimedOut { .. } => ErrorCode::DeadlineExceeded,
            _ => ErrorCode::Unavailable,
        };
        CapabilityError::new(code, error.to_string()).retryable()
    }

    /// Reports why a connection that a program believes to be open has ended at once.
    pub(super) fn not_forwarded(&self, origin: &Origin, error: &DialError) {
        let failed = self.failed(origin, error);
        if !matches!(error, DialError::Refused(_)) {
            self.report_once(&format!("{origin} fails"), failed);
        }
    }

    /// The denial of a connection to a granted origin whose name resolves to an address that no name may resolve to.
    pub(super) fn refused(&self, origin: &Origin, refused: &AddressRefused) -> CapabilityError {
        self.report_once(origin, self.policy.deny_address(origin, refused))
    }

    /// The denial of a tunnel to `origin` in which the program requested another host (domain fronting).
    pub(super) fn fronted(&self, origin: &Origin, requested: &str) -> CapabilityError {
        let message = format!("a program of the stage opened a tunnel to {origin}, but requested {requested} in it");
        let denied = CapabilityError::new(ErrorCode::PermissionDenied, message).with_help(
            "open the tunnel to the host that is requested; if the program doesn't support that, replace it",
        );
        self.report_once(&format!("{origin} for {requested}"), denied)
    }

    /// A program looked up a name, which the sandbox doesn't resolve.
    pub(super) fn looked_up(&self, host: &str) {
        // The port isn't known. Most hosts are reached by https.
        if let Some(origin) = Origin::of_tunnel(&format!("{host}:443")) {
            self.bypassed(&origin);
        }
    }

    /// A program tried to connect to an address, which leads nowhere in the sandbox.
    pub(crate) fn unreachable(&self, address: SocketAddr) {
        if let Some(origin) = Origin::of_tunnel(&address.to_string()) {
            self.bypassed(&origin);
        }
    }

    /// A program tried to reach a host without the proxy. A granted host isn't a denial, however it is reached.
    fn bypassed(&self, origin: &Origin) {
        let is_signed = self.signed().iter().any(|signed| signed.host() == origin.host());
        if !is_signed && !self.policy.grants_host(origin) && !self.own.has_place(origin) {
            // Reports a denial.
            let _ = self.tunnel(origin);
        }
    }

    /// A permit for a connection, to be held as long as the connection is open. At the limit, it waits for another
    /// connection to end. A caller that accepts no connection meanwhile leaves the next ones in the listener's queue, and
    /// then each waits for one end, not for those of all before it.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit, CapabilityError> {
        let permit = timeout(self.wait, self.connections.clone().acquire_owned()).await;
        permit.ok().and_then(Result::ok).ok_or_else(|| {
            let limit = self.limit;
            let message = format!(
                "the stage's programs have {limit} connections open, which is their limit, and none ended within {:?}",
                self.wait
            );
            let denied = CapabilityError::new(ErrorCode::ResourceExhausted, message)
                .with_help(self.policy.raise_requests(limit));
            self.report_once(&"connections", denied)
        })
    }

    fn report_once(&self, what: &dyn std::fmt::Display, denied: CapabilityError) -> CapabilityError {
        let what = what.to_string();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() < REPORTED && reported.insert(what) {
            // The lock is released first, so that a callback that takes its time doesn't hold up other connections.
            drop(reported);
            (self.report)(&denied);
        }
        denied
    }
}
