//! The engine under scripted fakes: no process, no file, no wall clock.

mod artifacts;
mod captures;
mod compensation;
mod drive;
mod environments;
mod fake;
mod gates;
mod groups;
mod lapses;
mod plans;
mod recovery;
mod rehearsal;
mod resume;
mod scheduler;
mod transitions;
mod travel;
mod waits;
