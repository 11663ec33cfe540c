//! `cancel`: asks a run to end, from any terminal.

use stagewright_report::{Printer, text};
use stagewright_store::{Filter, RunState, Store};

use crate::args::{CacheMode, CancelArgs, DriveArgs, Format, Global};
use crate::command::decide::user;
use crate::command::resume::{Wanted, go_on};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::repository::Repository;

/// Leaves the wish for the process that drives the run. A run that waits for people alone is ended here.
pub(crate) fn cancel(
    global: &Global,
    repository: &Repository,
    args: &CancelArgs,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let mut store = Store::open(&repository.state)?;
    let run = store.find(&args.run)?;
    let why = args.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let reason = format!("cancelled by {}{why}", user(repository));
    let row = store.list(&Filter::default())?.into_iter().find(|row| row.id == run);
    let state = row.map_or(RunState::Interrupted, |row| row.state);
    match state {
        RunState::Ended(outcome) => {
            return Err(CommandError::not_ready(format!("run {run} has {} already", outcome.as_str())));
        }
        RunState::Interrupted => {
            return Err(CommandError::not_ready(format!("run {run} was interrupted: nothing of it is running"))
                .hint(format!("to go on with it: stagewright resume {run}")));
        }
        RunState::Running => {
            store.request_cancel(&run, &reason)?;
            out.line(text!("Run {run} was asked to end."))?;
            return Ok(Exit::Success);
        }
        RunState::Waiting => drop(store.request_cancel(&run, &reason)?),
    }
    let drive = DriveArgs {
        jobs: None,
        format: Format::Text,
        junit: None,
        wait: false,
        cache: CacheMode::Off,
        shared_cache: None,
        cache_tier: None,
        locked: false,
    };
    let wanted = Wanted { reason: "to be cancelled", from: &[], accept_changes: true };
    match go_on(global, repository, &drive, store, run, &wanted)? {
        Exit::Cancelled => Ok(Exit::Success),
        exit => Ok(exit),
    }
}
