//! Signals, which end the waits of stages early.

use serde_json::Value as Json;
use stagewright_engine::{EventKind, RunId, RunState, Signal, SignalError, check_signal};
use stagewright_model::{StageIndex, list};

use crate::clock::SystemClock;
use crate::decide::person;
use crate::error::SessionError;
use crate::journal::{apply, fold, needs_process, stages_of};
use crate::session::Session;

/// A signal to a run.
#[derive(Clone, Debug)]
pub struct SignalRequest {
    /// The run's id, a unique prefix of its id, or `latest`.
    pub run: String,
    /// The token of the wait that it ends.
    pub token: String,
    /// Passed to the plugin; null for none.
    pub payload: Json,
    /// The stage that waits; may be omitted if only one waits for the token.
    pub stage: Option<String>,
    /// Who sends it; [`Session::user_name`] by default.
    pub by: Option<String>,
}

/// A signal that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentSignal {
    /// The run.
    pub run: RunId,
    /// The id of the stage whose wait it ends; none if no stage waits for the token yet, so that the run keeps the signal.
    pub ends: Option<String>,
    /// Who sent it.
    pub by: String,
    /// Whether the run must be resumed to receive it, because no process drives it.
    pub needs_resume: bool,
}

impl Session {
    /// Sends a signal to a run. It is received by the process that drives the run or will resume it.
    ///
    /// # Errors
    /// If the run has ended or keeps too many signals, or if several stages wait for the token and none is named.
    pub fn signal(&self, request: &SignalRequest) -> Result<SentSignal, SessionError> {
        let shared = self.store()?;
        let mut store = shared.lock();
        let run = store.find(&request.run)?;
        let ids: Vec<String> = stages_of(&store, &run)?.into_iter().map(|stage| stage.id.clone()).collect();
        let stage = request.stage.as_deref().map(|stage| index_of(&run, &ids, stage)).transpose()?;
        let by = person(self, request.by.as_deref())?;
        let (token, payload) = (request.token.clone(), request.payload.clone());
        let signal = Signal { number: 0, token, stage, payload, by: by.clone(), at: SystemClock::timestamp() };
        let ends = store.put_signal(&run, &signal, |events, pending| {
            let mut state = fold(&run, ids.clone(), events)?;
            for earlier in pending {
                receive(&run, &mut state, earlier)?;
            }
            let waiting = check_signal(&state, &signal).map_err(|error| refused(&run, &error))?;
            match waiting.as_slice() {
                [] => Ok(None),
                [stage] => Ok(Some(ids[stage.get()].clone())),
                several => Err(ambiguous(&run, &signal.token, several.iter().map(|stage| &ids[stage.get()]))),
            }
        })??;
        let needs_resume = needs_process(&store, &run)?;
        Ok(SentSignal { run, ends, by, needs_resume })
    }
}

/// Applies a signal that the run hasn't received yet, as the process that drives it will do it.
fn receive(run: &RunId, state: &mut RunState, signal: &Signal) -> Result<(), SessionError> {
    match check_signal(state, signal) {
        Ok(waiting) => {
            let signal = signal.clone();
            let event = match waiting.first() {
                Some(&stage) => EventKind::GateSignalled { stage, signal },
                None => EventKind::SignalKept { signal },
            };
            apply(run, state, &event)
        }
        // The run will refuse it.
        Err(_) => Ok(()),
    }
}

fn index_of(run: &RunId, ids: &[String], stage: &str) -> Result<StageIndex, SessionError> {
    let found = ids.iter().position(|id| id == stage).and_then(|index| u32::try_from(index).ok());
    found.map(StageIndex).ok_or_else(|| {
        SessionError::invalid_request(format!("run {run} has no stage `{stage}`"))
            .hint(format!("its stages are: {}", list(ids)))
    })
}

fn refused(run: &RunId, error: &SignalError) -> SessionError {
    let message = format!("the signal to run {run} was refused: {error}");
    match error {
        SignalError::Token(_) => {
            SessionError::invalid_request(message).hint("list the tokens with `stagewright runs --waiting`")
        }
        SignalError::PayloadTooLarge(_) => {
            SessionError::invalid_request(message).hint("send a reference to the data instead, such as its URL")
        }
        SignalError::RunEnded | SignalError::StageEnded => {
            SessionError::not_ready(message).hint(format!("check the state of the run: stagewright show {run}"))
        }
        SignalError::TooMany => {
            SessionError::not_ready(message).hint("check that the token is the one that the stage will wait for")
        }
    }
}

fn ambiguous<'a>(run: &RunId, token: &str, stages: impl Iterator<Item = &'a String>) -> SessionError {
    SessionError::invalid_request(format!("several stages of run {run} wait for {token:?}"))
        .hint(format!("choose one with --stage: {}", list(stages)))
}
