//! `resume`: continues a run.

use stagewright_session::{ResumeOptions, Session};

use crate::args::ResumeArgs;
use crate::drive::drive;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::global::Global;

/// `resume`.
pub(crate) async fn resume(global: &Global, session: &Session, args: &ResumeArgs) -> Result<Exit, CommandError> {
    let request = ResumeOptions {
        reason: "requested on the command line".to_owned(),
        from: args.from.clone(),
        accept_changes: args.accept_changes,
        options: args.drive.options(),
    };
    let run = session.resume_run(&args.run, &request).await?;
    drive(global, session, &args.drive, run).await
}
