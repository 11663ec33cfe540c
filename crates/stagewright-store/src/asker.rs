//! A run that asks for its turn.

use stagewright_engine::RunId;

use crate::environment;

/// Who asks for something.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) run: RunId,
    /// Its place in the order of runs.
    pub(crate) number: u64,
    pub(crate) rehearsal: bool,
}

impl Asker {
    /// The name under which an environment is kept: each rehearsal has environments of its own, so that none waits for
    /// another, or is overtaken by one.
    pub(crate) fn environment(&self, name: &str) -> String {
        if self.rehearsal { environment::of_rehearsal(&self.run, name) } else { name.to_owned() }
    }
}
