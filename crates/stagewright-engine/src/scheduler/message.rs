//! The inputs and outputs of the state machine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stagewright_model::StageIndex;

use crate::event::{Capture, Change, Decision, Event, EventKind, Failure, Interrupt, RunId, RunSummary, Signal};
use crate::port::{
    AttemptReport, AttemptRequest, CaptureRequest, EnvironmentAnswer, EnvironmentRequest, GroupAnswer, GroupRequest,
};

/// An input to the state machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Start the run under this id.
    Start(RunId),
    /// Resume a restored run; see [`Scheduler::restore`](super::Scheduler::restore).
    Resume {
        /// Why it is resumed, shown to people.
        reason: String,
        /// Stages to run again, with all stages that need them, even if they succeeded.
        from: Vec<StageIndex>,
        /// Accepted differences from the start of the run.
        changed: Vec<Change>,
        /// The text of the pipeline file that the plan was read from, if it isn't the one that the run had so far.
        pipeline: Option<String>,
    },
    /// The answer to [`Action::AcquireEnvironment`].
    EnvironmentAnswer {
        /// The stage.
        stage: StageIndex,
        /// The answer.
        answer: EnvironmentAnswer,
    },
    /// The answer to [`Action::Capture`].
    Captured {
        /// The stage.
        stage: StageIndex,
        /// The capture; `Ok(None)` if the runner doesn't capture files.
        captured: Result<Option<Capture>, Failure>,
    },
    /// The answer to [`Action::ReadReleases`].
    Releases {
        /// The stage.
        stage: StageIndex,
        /// The fences of the current releases, by environment.
        releases: BTreeMap<String, u64>,
    },
    /// The answer to [`Action::EnterGroup`].
    GroupAnswer(GroupAnswer),
    /// The delay of [`Action::RetryGroup`] has passed.
    RetryGroup,
    /// An attempt ended.
    Ended {
        /// The stage.
        stage: StageIndex,
        /// The attempt, from 1.
        attempt: u32,
        /// The result.
        report: AttemptReport,
    },
    /// The delay of [`Action::Wake`] has passed.
    Woken {
        /// The stage.
        stage: StageIndex,
        /// The attempt that the timer was set for.
        attempt: u32,
    },
    /// A person answered a gate. An answer that [`Scheduler::check`](super::Scheduler::check) refuses changes nothing.
    Decided {
        /// The stage.
        stage: StageIndex,
        /// The answer.
        decision: Decision,
    },
    /// A signal arrived. One that [`check_signal`](crate::check_signal) refuses changes nothing.
    Signalled(Signal),
    /// End the run early.
    Cancel {
        /// How fast.
        how: Interrupt,
        /// Who or what cancelled it.
        reason: String,
    },
    /// Suspend the run if only gates are left.
    Suspend,
}

/// Something to do once the events of the same [`Response`] have been recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Pass an event to the observers that isn't recorded.
    Notify(Box<EventKind>),
    /// Start an attempt.
    Launch(Box<AttemptRequest>),
    /// Interrupt a running attempt.
    Interrupt {
        /// The stage.
        stage: StageIndex,
        /// How fast.
        how: Interrupt,
    },
    /// Send [`Input::Woken`] after a delay.
    Wake {
        /// The stage.
        stage: StageIndex,
        /// The attempt that waits.
        attempt: u32,
        /// The delay.
        after: Duration,
    },
    /// Request the environment of a stage, and send [`Input::EnvironmentAnswer`].
    AcquireEnvironment {
        /// The stage.
        stage: StageIndex,
        /// The request.
        request: EnvironmentRequest,
    },
    /// Capture the files for a gate of the stage, and send [`Input::Captured`].
    Capture {
        /// The stage.
        stage: StageIndex,
        /// The files to capture.
        request: Box<CaptureRequest>,
    },
    /// Read which releases are current, for a gate of the stage, and send [`Input::Releases`].
    ReadReleases {
        /// The stage.
        stage: StageIndex,
        /// The environments.
        environments: BTreeSet<String>,
    },
    /// Release the environment.
    ReleaseEnvironment(String),
    /// Request the concurrency group, and send [`Input::GroupAnswer`].
    EnterGroup(GroupRequest),
    /// Release the concurrency group, or the place in its queue.
    LeaveGroup(String),
    /// Send [`Input::RetryGroup`] after a delay.
    RetryGroup(Duration),
    /// The run has ended or is suspended.
    Finish(RunSummary),
}

/// The response to an input.
#[derive(Debug, Default, PartialEq)]
#[must_use = "events must be recorded and actions carried out"]
pub struct Response {
    /// To be recorded, in order, before any action is taken.
    pub events: Vec<Event>,
    /// To be carried out, in order.
    pub actions: Vec<Action>,
}
