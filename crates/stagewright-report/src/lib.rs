//! Shows runs.
//!
//! The input is the [`Event`](stagewright_engine::Event)s of a run, live or from its journal; the output is bytes on the
//! writer or terminal that the caller passes in. Every reader folds the events into a [`RunView`] and shows that, so all
//! readers agree:
//!
//! - [`Plain`]: lines for people, for output that isn't a terminal.
//! - [`Terminal`]: the running stages, redrawn in place below the output of those that have ended.
//! - [`Json`]: JSON Lines, for programs; [`wire`] converts the engine's types to those of `stagewright-api`.
//! - [`Github`]: groups and annotations for a GitHub Actions log.
//! - [`junit()`]: a JUnit report, once the run has ended.
//! - [`Graph`]: the DAG as DOT, Mermaid or SVG.
//!
//! The same events always produce the same bytes: a replayed journal looks like the live run.
//!
//! Untrusted text is escaped before it is shown. The output of programs is first reduced to what a terminal would have
//! displayed in the end. Neither can move the cursor, change the colour of what follows, hide text, add a line, or issue a
//! command to the CI system that reads the log. The types [`Printable`] and [`Block`] guarantee it: [`Printer`], through
//! which this crate and the commands write, accepts nothing else.
//!
//! Architecture invariant: nothing here reads a clock, the environment, files or the terminal's settings. Times come
//! with the events and with [`Terminal::tick`], widths and colours from the caller.

mod explanation;
mod frame;
mod gate;
mod github;
mod graph;
mod json;
mod junit;
mod markdown;
mod measured;
mod plain;
mod printable;
mod printer;
mod reader;
mod style;
pub mod summary;
mod terminal;
mod text;
mod view;
pub mod wire;
mod words;
mod wrap;

pub use frame::frame;
pub use gate::captured;
pub use github::Github;
pub use graph::Graph;
pub use indicatif::ProgressDrawTarget;
pub use json::Json;
pub use junit::junit;
pub use plain::Plain;
pub use printable::{Block, Printable, is_one_line};
pub use printer::Printer;
pub use reader::RunReader;
pub use style::{Painted, StyledLine, Tone};
pub use terminal::{Terminal, TerminalOptions};
pub use text::{duration, shell_word, size};
pub use view::{
    Deployed, GroupView, Progress, RunView, StageStatus, StageView, TAIL, TailLine, UndoView, UnsuccessfulAttempt,
    WaitView,
};
