//! A run that requests an environment or a concurrency group.

use stagewright_engine::RunId;

use crate::environment;

/// The run that makes a request.
#[derive(Debug)]
pub(crate) struct RequestingRun {
    pub(crate) run: RunId,
    /// Its position in the order in which runs were created.
    pub(crate) number: u64,
    pub(crate) rehearsal: bool,
}

impl RequestingRun {
    /// The key of an environment in the database. Each rehearsal has separate environments, so that rehearsals neither
    /// wait for nor supersede each other.
    pub(crate) fn environment(&self, name: &str) -> String {
        if self.rehearsal { environment::rehearsal_key(&self.run, name) } else { name.to_owned() }
    }
}
