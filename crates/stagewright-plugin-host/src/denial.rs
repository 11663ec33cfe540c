//! Collects what a stage was denied, to report it at the end of the attempt.
//!
//! A plugin may ignore a denial, and a program may never show it. Either way the journal has it, as a problem with the
//! code [`CODE`].

use std::sync::{Arc, Mutex, PoisonError};

use stagewright_engine::{Level, Problem};

use crate::error::CapabilityError;
use crate::log::AttemptLog;
use crate::net::egress::DenialReport;
use crate::report::masked_problem;

/// The code of the problems that report denials.
const CODE: &str = "permission-denied";
/// The most denials that are kept: a plugin that tries everything must not fill the journal.
const KEPT: usize = 100;

/// The denials of one attempt; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Denials(Arc<Mutex<Vec<CapabilityError>>>);

impl Denials {
    /// Adds a denial. One with the same message replaces the earlier one.
    pub(crate) fn add(&self, denied: &CapabilityError) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.message != denied.message);
        if known.len() < KEPT {
            known.push(denied.clone());
        }
    }

    /// The last denial.
    pub(crate) fn last(&self) -> Option<CapabilityError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// Adds and logs the denials of the stage's programs on the network, whose own messages say little about a refused
    /// connection.
    pub(crate) fn reporter(&self, log: &AttemptLog) -> DenialReport {
        let (denials, log) = (self.clone(), log.clone());
        Arc::new(move |denied| {
            denials.add(denied);
            let log = log.clone();
            let help = denied.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
            let line = format!("denied: {}{help}", denied.message);
            tokio::spawn(async move { log.engine(&line).await });
        })
    }

    /// Reports all denials as problems. They bypass the limit on a plugin's findings, which a plugin could otherwise
    /// exhaust to hide its denials.
    pub(crate) async fn report(&self, log: &AttemptLog) {
        let denied = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for CapabilityError { message, help, grant, .. } in denied {
            let problem = Problem { help, grant, ..Problem::new(Level::Error, CODE, message) };
            log.output().problem(masked_problem(problem, log.masker())).await;
        }
    }
}
