//! What a stage was refused: remembered for the end of its attempt, and reported with the run.
//!
//! A plugin may swallow a refusal, and a program may never show it. Both are in the journal all the same, as problems
//! with the code [`CODE`].

use std::sync::{Arc, Mutex, PoisonError};

use stagewright_engine::{Level, Problem};

use crate::error::CapabilityError;
use crate::log::AttemptLog;
use crate::net::egress::DenialReport;
use crate::report::masked_problem;

/// Under which refusals are found in the journal.
const CODE: &str = "permission-denied";
/// Refusals that are kept: a plugin that tries everything must not fill the journal.
const KEPT: usize = 100;

/// The refusals of one attempt; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Denials(Arc<Mutex<Vec<CapabilityError>>>);

impl Denials {
    /// Remembers a refusal, once.
    pub(crate) fn add(&self, denied: &CapabilityError) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.message != denied.message);
        if known.len() < KEPT {
            known.push(denied.clone());
        }
    }

    /// The last refusal.
    pub(crate) fn last(&self) -> Option<CapabilityError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// For the network of the stage's programs, whose own messages say little about a refused connection.
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

    /// Writes them into the journal. They don't count as findings of the plugin, whose number is bounded: a plugin that
    /// reports many must not hide these.
    pub(crate) async fn report(&self, log: &AttemptLog) {
        let denied = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for CapabilityError { message, help, .. } in denied {
            let problem = Problem { level: Level::Error, code: CODE.to_owned(), message, path: None, help };
            log.output().problem(masked_problem(problem, log.masker())).await;
        }
    }
}
