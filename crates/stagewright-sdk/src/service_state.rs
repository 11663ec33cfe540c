//! The states of a service.

/// The state of a release's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It isn't listening yet.
    Starting,
    /// It runs.
    Running,
    /// It has ended.
    Exited,
    /// A state that a later version of the engine has.
    Unknown,
}

impl State {
    /// The name that the host has for it.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Exited => "exited",
            State::Unknown => "unknown",
        }
    }

    pub(crate) fn named(name: &str) -> State {
        match name {
            "starting" => State::Starting,
            "running" => State::Running,
            "exited" => State::Exited,
            _ => State::Unknown,
        }
    }
}
