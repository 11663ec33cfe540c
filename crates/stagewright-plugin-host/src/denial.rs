//! Collects what a stage was denied, to report it at the end of the attempt.
//!
//! A plugin may ignore a denial, and a program may never show it. Either way the journal has it, as a problem with the
//! code [`DENIED`], and a failure's help has the grants that would have prevented the denials.

use std::sync::{Arc, Mutex, PoisonError};

use stagewright_engine::{Level, Problem};
use stagewright_model::Permission;

use crate::error::{CapabilityError, ErrorCode};
use crate::log::AttemptLog;
use crate::net::egress::DenialReport;
use crate::policy::Policy;
use crate::report::masked_problem;

mod complaints;
mod refusals;

pub(crate) use complaints::OutputTail;
pub(crate) use refusals::{FailedProgram, FailureEvidence, RefusalSearch};

/// The code of the problems that report what a stage was denied.
pub const DENIED: &str = "permission-denied";
/// The most denials that are kept: a plugin that tries everything must not fill the journal.
const KEPT: usize = 100;

/// The denials of one attempt; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Denials(Arc<Mutex<Vec<Denial>>>);

#[derive(Debug)]
struct Denial {
    error: CapabilityError,
    /// Whether a program was denied it, which doesn't get the error that a plugin would get.
    is_of_program: bool,
}

impl Denials {
    /// Adds a denial. One with the same message replaces the earlier one.
    pub(crate) fn add(&self, denied: &CapabilityError) {
        self.insert(Denial { error: denied.clone(), is_of_program: false });
    }

    /// Adds what a program was denied.
    pub(crate) fn add_of_program(&self, denied: &CapabilityError) {
        self.insert(Denial { error: denied.clone(), is_of_program: true });
    }

    fn insert(&self, denial: Denial) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.error.message != denial.error.message);
        if known.len() < KEPT {
            known.push(denial);
        }
    }

    /// Takes the connections that programs were denied.
    pub(crate) fn take_connections(&self) -> Vec<CapabilityError> {
        let is_connection = |denial: &mut Denial| {
            let permission = denial.error.grant.as_ref().map(|grant| grant.permission);
            denial.is_of_program && matches!(permission, Some(Permission::Net | Permission::Socket))
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.extract_if(.., is_connection).map(|denial| denial.error).collect()
    }

    /// The last denial.
    pub(crate) fn last(&self) -> Option<CapabilityError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last().map(|denial| denial.error.clone())
    }

    /// The change to the pipeline that allows what programs were denied; none if nothing was, or nothing can.
    /// `with_network`: whether connections count.
    pub(crate) fn remedy(&self, policy: &Policy, with_network: bool) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_net =
            |error: &CapabilityError| error.grant.as_ref().is_some_and(|grant| grant.permission == Permission::Net);
        let denied = known.iter().filter(|denial| denial.is_of_program).map(|denial| &denial.error);
        let denied = denied.filter(|error| with_network || !is_net(error)).collect::<Vec<_>>();
        let missing = denied.iter().filter_map(|error| error.grant.as_deref().cloned()).collect::<Vec<_>>();
        match missing.is_empty() {
            // A path that isn't among the declared inputs is granted already.
            true => denied.last().and_then(|error| error.help.clone()),
            false => Some(policy.remedy(&missing)),
        }
    }

    /// Adds and logs the denials of the stage's programs on the network, whose own messages say little about a refused
    /// connection. Connections that failed are only logged.
    pub(crate) fn reporter(&self, log: &AttemptLog) -> DenialReport {
        let (denials, log) = (self.clone(), log.clone());
        Arc::new(move |denied| {
            let has_failed = matches!(denied.code, ErrorCode::Unavailable | ErrorCode::DeadlineExceeded);
            if !has_failed {
                denials.add_of_program(denied);
            }
            let log = log.clone();
            let help = denied.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
            let start = if has_failed { "" } else { "denied: " };
            let line = format!("{start}{}{help}", denied.message);
            tokio::spawn(async move { log.engine(&line).await });
        })
    }

    /// Reports all denials as problems. They bypass the limit on a plugin's findings, which a plugin could otherwise
    /// exhaust to hide its denials.
    pub(crate) async fn report(&self, log: &AttemptLog) {
        let denied = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for CapabilityError { message, help, grant, .. } in denied.into_iter().map(|denial| denial.error) {
            let problem = Problem { help, grant, ..Problem::new(Level::Error, DENIED, message) };
            log.output().problem(masked_problem(problem, log.masker())).await;
        }
    }
}
