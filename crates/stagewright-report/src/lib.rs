//! Shows runs.
//!
//! In flow the [`Event`](stagewright_engine::Event)s of a run, live or from its journal; out flow bytes, on the writer
//! or terminal that the caller gave. Every reader folds the events into a [`RunView`] and shows that, so they agree:
//!
//! - [`Plain`]: lines for people, where there is no terminal to redraw.
//! - [`Terminal`]: what runs now, redrawn in place, below what has ended.
//! - [`Json`]: a JSON object a line, for programs; [`wire`] makes the types of `stagewright-api` that it writes.
//! - [`Github`]: groups and annotations for a GitHub Actions log.
//! - [`junit()`]: a JUnit report, once the run has ended.
//! - [`Graph`]: the DAG as DOT, Mermaid or SVG.
//!
//! The same events always give the same bytes: a replayed journal looks like the live run. Text of others is escaped
//! before it is shown, and the words of programs are first reduced to what a terminal would have left of them. So neither
//! can move the cursor, colour what follows, hide, add a line or speak to the machine that reads the log. That is what the
//! types [`Printable`] and [`Block`] stand for: [`Printer`], the writer of this crate and of the commands, takes nothing
//! else.
//!
//! Architecture invariant: nothing here reads a clock, the environment, files or the terminal's settings. Times come
//! with the events and with [`Terminal::tick`], widths and colours from the caller.

mod frame;
mod gate;
mod github;
mod graph;
mod json;
mod junit;
mod markdown;
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
pub use text::{duration, shell_word};
pub use view::{
    Deployed, GroupView, Progress, RunView, StageStatus, StageView, TAIL, TailLine, UndoView, UnsuccessfulAttempt,
};
