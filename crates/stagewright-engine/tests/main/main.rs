//! The engine under scripted fakes: no process, no file, no wall clock.

mod compensation;
mod drive;
mod environments;
mod fake;
mod gates;
mod groups;
mod plans;
mod recovery;
mod resume;
mod scheduler;
