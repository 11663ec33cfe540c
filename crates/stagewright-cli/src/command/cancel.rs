//! `cancel`: requests the cancellation of a run, from any terminal.

use stagewright_report::{Printer, text};
use stagewright_session::{Cancelled, Session};

use crate::args::CancelArgs;
use crate::drive::drive;
use crate::drive_args::{CacheMode, DriveArgs, OutputFormat};
use crate::error::CommandError;
use crate::exit::Exit;
use crate::global::Global;

/// Leaves the request for the process that drives the run. A suspended run has no such process: it is cancelled here.
pub(crate) async fn cancel(
    global: &Global,
    session: &Session,
    args: &CancelArgs,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let run = match session.cancel(&args.run, args.reason.as_deref()).await? {
        Cancelled::Requested(run) => {
            out.line(text!("Requested the cancellation of run {run}."))?;
            return Ok(Exit::Success);
        }
        Cancelled::Waiting(run) => run,
    };
    let shown = DriveArgs {
        jobs: None,
        format: OutputFormat::Text,
        junit: None,
        wait: false,
        cache: CacheMode::Off,
        shared_cache: None,
        cache_tier: None,
        locked: false,
    };
    match drive(global, session, &shown, *run).await? {
        Exit::Cancelled => Ok(Exit::Success),
        exit => Ok(exit),
    }
}
