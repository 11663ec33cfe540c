//! The guard between the programs of one attempt and the network: what may be connected to, and how many connections
//! are open at a time.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use stagewright_model::Origin;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::dial::{DialError, Dialer};
use crate::error::{CapabilityError, ErrorCode};
use crate::net::OwnOrigins;
use crate::policy::Policy;

/// Denials that are reported. A program that tries every name there is must not fill the log.
const REPORTED: usize = 1000;

/// Called with each denial, once for each origin. Must not block.
pub(crate) type DenialReport = Arc<dyn Fn(&CapabilityError) + Send + Sync>;

/// One for each attempt that has a network.
pub(crate) struct EgressGuard {
    policy: Arc<Policy>,
    own: OwnOrigins,
    pub(super) dialer: Arc<Dialer>,
    report: DenialReport,
    /// What was denied and reported.
    reported: Mutex<HashSet<String>>,
    connections: Arc<Semaphore>,
    limit: usize,
}

impl EgressGuard {
    /// At most `connections` at a time, tunnels, requests and forwarded ports taken together.
    pub(crate) fn new(
        policy: Arc<Policy>,
        own: OwnOrigins,
        dialer: Arc<Dialer>,
        report: DenialReport,
        connections: usize,
    ) -> EgressGuard {
        let limit = connections.min(Semaphore::MAX_PERMITS);
        let connections = Arc::new(Semaphore::new(limit));
        EgressGuard { policy, own, dialer, report, reported: Mutex::default(), connections, limit }
    }

    /// Whether a plain request to `origin` may be sent.
    pub(super) fn request(&self, origin: &Origin) -> Result<(), CapabilityError> {
        if self.own.contains(origin) {
            return Ok(());
        }
        self.policy.origin(origin).map_err(|denied| self.report_once(origin, denied))
    }

    /// Whether a tunnel to `origin` may be opened.
    pub(super) fn tunnel(&self, origin: &Origin) -> Result<(), CapabilityError> {
        if self.own.has_place(origin) {
            return Ok(());
        }
        self.policy.tunnel(origin).map_err(|denied| self.report_once(origin, denied))
    }

    /// Whether connections may be forwarded to `to`, on this machine's loopback.
    pub(super) fn forward(&self, to: SocketAddr) -> Result<(), CapabilityError> {
        if self.policy.loopback_ports().contains(&to) {
            return Ok(());
        }
        let origin = Origin::of_tunnel(&to.to_string()).filter(Origin::is_loopback).ok_or_else(|| {
            CapabilityError::new(ErrorCode::InvalidArgument, format!("{to} isn't a port of this machine's loopback"))
        })?;
        self.tunnel(&origin)
    }

    /// The error that a program gets when there is no connection to `origin`; an address that is refused is a denial.
    pub(super) fn failed(&self, origin: &Origin, error: &DialError) -> CapabilityError {
        if let DialError::Refused(refused) = error {
            return self.report_once(origin, self.policy.deny_address(origin, refused));
        }
        let code = match error {
            DialError::TimedOut { .. } => ErrorCode::DeadlineExceeded,
            _ => ErrorCode::Unavailable,
        };
        CapabilityError::new(code, error.to_string()).retryable()
    }

    /// The denial of a tunnel in which another host was asked for than the one it was opened to.
    pub(super) fn fronted(&self, origin: &Origin, asked: &str) -> CapabilityError {
        let message = format!("a program of the stage opened a tunnel to {origin}, and asked for {asked} in it");
        let denied = CapabilityError::new(ErrorCode::PermissionDenied, message).with_help(
            "a tunnel must be opened to the host that is meant; if the program can't do otherwise, replace it",
        );
        self.report_once(&format!("{origin} for {asked}"), denied)
    }

    /// A place among the connections, which is held as long as the connection is open.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, CapabilityError> {
        self.connections.clone().try_acquire_owned().map_err(|_| {
            let limit = self.limit;
            let message = format!("the stage's programs have {limit} connections open, and may have no more at a time");
            let denied = CapabilityError::new(ErrorCode::ResourceExhausted, message)
                .with_help(self.policy.raise_requests(limit));
            self.report_once(&"connections", denied)
        })
    }

    fn report_once(&self, what: &dyn std::fmt::Display, denied: CapabilityError) -> CapabilityError {
        let what = what.to_string();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() < REPORTED && reported.insert(what) {
            drop(reported);
            (self.report)(&denied);
        }
        denied
    }
}
