//! Keeps runs: their journals, their history, their logs, the ledger of what they deployed, and what people leave for
//! them; and keeps them out of each other's way.
//!
//! In flow the events and log lines of runs; out flow the same, in order, to whoever resumes, lists or shows a run.
//! All of it lives in one state folder, which `docs/store.md` describes for those who look after one:
//!
//! ```text
//! <state>/.gitignore                          *
//! <state>/stagewright.db                      SQLite in WAL mode; the schema is in `schema/*.sql`
//! <state>/runs/<run>/lease                    locked by the process that drives the run
//! <state>/runs/<run>/logs/<stage>-<attempt>.log
//! ```
//!
//! Several processes may hold a [`Store`] on the same folder at a time: one drives a run, others list, follow or
//! decide. A reader sees an event as soon as [`append`](stagewright_engine::RunStore::append) has returned, durable
//! or not.
//!
//! Architecture invariant: nothing here starts or stops anything, prints, or reads a clock. Times come from the
//! callers, and nothing is put in order by them: runs have numbers, events are counted, tokens only grow. What the
//! history, the ledger and the open gates say follows from the events, and is written in their transactions.

mod asker;
mod coordinator;
mod environment;
mod error;
mod gc;
mod group;
mod history;
mod inbox;
mod journal;
mod ledger;
mod log;
mod replay;
mod row;
mod run_lock;
mod schema;
mod store;

pub use environment::{EnvironmentRow, Freeze};
pub use gc::{GcReport, Retention};
pub use history::{Filter, OpenGate, RunRecord, RunRow, RunState};
pub use ledger::ReleaseRow;
pub use log::{LogLine, LogReader, RunLogs};
pub use run_lock::RunLock;
pub use store::{DATABASE, Store};
