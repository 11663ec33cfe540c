//! The store of runs: journals, history, logs, the ledger of releases, and messages to runs; and the mutual exclusion
//! between runs.
//!
//! It takes the events and log lines of runs, and returns them in order to callers that resume, list or show a run.
//! Everything is in one state folder, which `docs/store.md` describes for operators:
//!
//! ```text
//! <state>/.gitignore                          *
//! <state>/stagewright.db                      SQLite in WAL mode; the schema is in `schema/*.sql`
//! <state>/runs/<run>/lease                    locked by the process that drives the run
//! <state>/runs/<run>/logs/<stage>-<attempt>.log
//! ```
//!
//! Several processes may use a [`Store`] on the same folder at the same time: one drives a run, others list, follow or
//! answer. Readers see an event as soon as [`append`](stagewright_engine::RunStore::append) has returned, durable or
//! not.
//!
//! Architecture invariant: nothing here starts or stops anything, prints, or reads a clock. Times come from the callers
//! and never define an order: runs and events are numbered, and fences only increase. The history, the ledger and the
//! open gates are derived from the events, and written in the same transactions.

mod coordinator;
mod environment;
mod error;
mod follow;
mod gc;
mod group;
mod history;
mod inbox;
mod journal;
mod ledger;
mod log;
mod replay;
mod requesting_run;
mod rollout;
mod row;
mod run_lock;
mod schema;
mod store;

pub use environment::{EnvironmentFreeze, EnvironmentRow};
pub use follow::LogFollower;
pub use gc::{GcReport, Retention};
pub use history::{OpenGate, RunFilter, RunPhase, RunRecord, RunRow};
pub use ledger::ReleaseRow;
pub use log::{LogLine, LogReader, RunLogs};
pub use rollout::RolloutRow;
pub use run_lock::RunLock;
pub use store::{DATABASE, Store};
