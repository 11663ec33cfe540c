//! The scheduler of pipeline runs.
//!
//! It takes a [`Plan`](stagewright_model::Plan) and, while the run lasts, [`Input`]s: ended attempts, timers, decisions
//! and cancellations. Each input produces a [`Response`]: events to record, and [`Action`]s such as attempts to start
//! or stop and timers to set. The [`Scheduler`] is a synchronous state machine without clock or I/O; [`drive()`] is the
//! loop that carries out its actions through the ports [`StageRunner`], [`RunStore`], [`Clock`] and [`Observer`].
//!
//! Architecture invariant: nothing here touches files, processes, wasmtime, the environment, the terminal, the wall
//! clock or randomness. Everything that a run does is recorded as an [`Event`] first, and a run's state is the fold of
//! its events.

mod drive;
mod event;
mod gate;
mod lines;
mod port;
mod scheduler;
mod scope;
mod shared;
mod signal;
mod state;

pub use drive::{DriveError, Ports, RunCommand, drive};

pub use event::{
    Artifact, Capture, Change, Decision, Event, EventKind, FailedTest, Failure, FailureKind, Field, FieldKind,
    FilePlace, Finding, Gate, GateKind, GitState, Interrupt, Level, Made, Metric, Outcome, Problem, Release,
    ReleaseOrigin, ReleaseSource, Rollout, RolloutError, RolloutPhase, RunId, RunSource, RunSummary, Signal,
    SignalError, StageSummary, Stream, TestCase, TestOutcome, TextRange, Timestamp, TokenError, Trigger, Wait,
    WaitError,
};
pub use gate::{DecisionError, check_decision, still_missing};
pub use lines::{Lines, LogChunk};
pub use port::{
    ApprovedCapture, AttemptEnd, AttemptMessage, AttemptMessageKind, AttemptOutput, AttemptReport, AttemptRequest,
    Basis, CacheRequest, Call, CaptureRequest, Clock, Delivery, Drift, EarlierResult, EarlierStage, EffectRefused,
    EffectReply, EnvironmentAnswer, EnvironmentRequest, EnvironmentView, GroupAnswer, GroupRequest, HEARTBEAT, LEASE,
    LogSink, Need, Observation, Observer, OutputListener, ReleaseNote, RunCoordinator, RunStore, SourceView,
    StageRunner, StoreError, StoreErrorKind,
};
pub use scheduler::{Action, Input, Response, Scheduler};
pub use scope::{ConcurrencyGroup, PluginFacts, RunValues, concurrency_group};
pub use signal::check_signal;
pub use stagewright_model::{EffectClass, Fidelity};
pub use state::{ApprovedGate, IllegalTransition, Resumption, RunState, StageState, StageStatus, UndoState, WakeCause};
