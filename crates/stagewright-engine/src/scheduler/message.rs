//! What goes into the state machine, and what comes out of it.

use std::time::Duration;

use stagewright_model::StageIndex;

use crate::event::{Capture, Change, Decision, Event, EventKind, Failure, Interrupt, RunId, RunSummary};
use crate::port::{
    AttemptReport, AttemptRequest, CaptureRequest, EnvironmentAnswer, EnvironmentRequest, GroupAnswer, GroupRequest,
};

/// What can reach a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Begin, as this run.
    Start(RunId),
    /// Go on with a run whose events were folded in; see [`Scheduler::restore`](super::Scheduler::restore).
    Resume {
        /// Shown to people.
        reason: String,
        /// Stages to run again, with all that needs them, even if they succeeded.
        from: Vec<StageIndex>,
        /// What is no longer as it was when the run started, and was accepted.
        changed: Vec<Change>,
    },
    /// The answer to [`Action::AcquireEnvironment`].
    EnvironmentAnswer {
        /// The stage.
        stage: StageIndex,
        /// The answer.
        claimed: EnvironmentAnswer,
    },
    /// The answer to [`Action::Capture`].
    Captured {
        /// The stage.
        stage: StageIndex,
        /// What was captured.
        captured: Result<Option<Capture>, Failure>,
    },
    /// The answer to [`Action::EnterGroup`].
    GroupAnswer(GroupAnswer),
    /// The time that [`Action::AskAgain`] asked for has come.
    AskAgain,
    /// An attempt came to its end.
    Ended {
        /// The stage.
        stage: StageIndex,
        /// Which try.
        attempt: u32,
        /// How it went.
        report: AttemptReport,
    },
    /// The time that [`Action::Wake`] asked for has come.
    Woken {
        /// The stage.
        stage: StageIndex,
        /// The attempt that it was asked for.
        attempt: u32,
    },
    /// A person answered a gate. An answer that [`Scheduler::check`](super::Scheduler::check) would refuse changes nothing.
    Decided {
        /// The stage.
        stage: StageIndex,
        /// The answer.
        decision: Decision,
    },
    /// End early.
    Cancel {
        /// How fast.
        how: Interrupt,
        /// By whom or what.
        reason: String,
    },
    /// Stop here if only gates are left.
    Suspend,
}

/// What is to be done, once the events of the same [`Response`] have been recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Show what isn't recorded.
    Tell(EventKind),
    /// Begin an attempt.
    Launch(Box<AttemptRequest>),
    /// Ask a running attempt to stop.
    Interrupt {
        /// The stage.
        stage: StageIndex,
        /// How fast.
        how: Interrupt,
    },
    /// Send [`Input::Woken`] after so long.
    Wake {
        /// The stage.
        stage: StageIndex,
        /// The attempt that waits.
        attempt: u32,
        /// How long.
        after: Duration,
    },
    /// Ask for the environment of a stage, and send [`Input::EnvironmentAnswer`].
    AcquireEnvironment {
        /// The stage.
        stage: StageIndex,
        /// The request.
        claim: EnvironmentRequest,
    },
    /// Capture the files for a gate of the stage, and send [`Input::Captured`].
    Capture {
        /// The stage.
        stage: StageIndex,
        /// Which files.
        request: Box<CaptureRequest>,
    },
    /// Let others have the environment.
    Unclaim(String),
    /// Ask for the concurrency group, and send [`Input::GroupAnswer`].
    EnterGroup(GroupRequest),
    /// Let others of the concurrency group go on.
    Leave(String),
    /// Send [`Input::AskAgain`] after so long.
    AskAgain(Duration),
    /// Nothing more will come of this run in this process.
    Finish(RunSummary),
}

/// What follows from an input: events first, for the journal; then actions.
#[derive(Debug, Default, PartialEq)]
#[must_use = "events must be recorded and actions carried out"]
pub struct Response {
    /// To be recorded, in order, before any action is taken.
    pub events: Vec<Event>,
    /// To be carried out, in order.
    pub actions: Vec<Action>,
}
