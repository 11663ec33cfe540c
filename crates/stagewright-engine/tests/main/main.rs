//! The engine under scripted fakes: no process, no file, no wall clock.

mod drive;
mod fake;
mod gates;
mod plans;
mod resume;
mod scheduler;
