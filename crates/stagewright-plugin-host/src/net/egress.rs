//! The gate between the programs of one attempt and the network: what may be connected to, and how often at a time.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use stagewright_model::Origin;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::dial::{DialError, Dialer};
use crate::error::{CapabilityError, ErrorCode};
use crate::net::OwnOrigins;
use crate::policy::Policy;

/// Denials that are told. A program that goes through all names there are shall not fill the log.
const TOLD: usize = 1000;

/// Is told of a denial, once for each origin. May not block.
pub(crate) type Report = Arc<dyn Fn(&CapabilityError) + Send + Sync>;

/// One for each attempt that has a network.
pub(crate) struct Gate {
    policy: Arc<Policy>,
    own: OwnOrigins,
    pub(super) dialer: Arc<Dialer>,
    report: Report,
    /// What was denied.
    told: Mutex<HashSet<String>>,
    connections: Arc<Semaphore>,
    limit: usize,
}

impl Gate {
    /// At most `connections` at a time, tunnels, requests and forwarded ports taken together.
    pub(crate) fn new(
        policy: Arc<Policy>,
        own: OwnOrigins,
        dialer: Arc<Dialer>,
        report: Report,
        connections: usize,
    ) -> Gate {
        let limit = connections.min(Semaphore::MAX_PERMITS);
        let connections = Arc::new(Semaphore::new(limit));
        Gate { policy, own, dialer, report, told: Mutex::default(), connections, limit }
    }

    /// Whether a plain request to `origin` may be sent.
    pub(super) fn request(&self, origin: &Origin) -> Result<(), CapabilityError> {
        if self.own.contains(origin) {
            return Ok(());
        }
        self.policy.origin(origin).map_err(|denied| self.told(origin, denied))
    }

    /// Whether a tunnel to `origin` may be opened.
    pub(super) fn tunnel(&self, origin: &Origin) -> Result<(), CapabilityError> {
        if self.own.has_place(origin) {
            return Ok(());
        }
        self.policy.tunnel(origin).map_err(|denied| self.told(origin, denied))
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

    /// What a program is told that gets no connection to `origin`; a refusal by the guard is a denial.
    pub(super) fn failed(&self, origin: &Origin, error: &DialError) -> CapabilityError {
        if let DialError::Refused(refused) = error {
            return self.told(origin, self.policy.deny_address(origin, refused));
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
        self.told(&format!("{origin} for {asked}"), denied)
    }

    /// A place among the connections, which is held as long as the connection is open.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, CapabilityError> {
        self.connections.clone().try_acquire_owned().map_err(|_| {
            let limit = self.limit;
            let message = format!("the stage's programs have {limit} connections open, and may have no more at a time");
            let denied = CapabilityError::new(ErrorCode::ResourceExhausted, message)
                .with_help(self.policy.raise_requests(limit));
            self.told(&"connections", denied)
        })
    }

    fn told(&self, what: &dyn std::fmt::Display, denied: CapabilityError) -> CapabilityError {
        let what = what.to_string();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD && told.insert(what) {
            drop(told);
            (self.report)(&denied);
        }
        denied
    }
}
