//! `rollback`: deploys an earlier release of an environment again.

use stagewright_report::{Printer, text};
use stagewright_session::{RollbackTarget, Session};
use stagewright_store::ReleaseRow;

use crate::args::RollbackArgs;
use crate::drive::drive;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::global::Global;

/// `rollback`.
pub(crate) async fn rollback(
    global: &Global,
    session: &Session,
    args: &RollbackArgs,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let mut targets = Vec::new();
    for (name, target) in session.rollback_targets(&args.environment, args.to)? {
        let (current, target) = match target {
            RollbackTarget::Release { current, target } => (current, target),
            RollbackTarget::NothingDeployed => {
                out.line(text!("{name} has no release to roll back from; nothing was done."))?;
                continue;
            }
            RollbackTarget::Current(target) => {
                out.line(text!("{name} already runs {}; nothing was done.", target.release.artifact))?;
                continue;
            }
        };
        if !args.drive.is_json() || args.dry_run {
            let from = current.map_or_else(|| "no release".to_owned(), |current| describe(&current));
            out.line(text!("Rolling back {name} from {from}"))?;
            out.line(text!("  to {}", describe(&target)))?;
        }
        targets.push(*target);
    }
    if targets.is_empty() {
        return Ok(Exit::Success);
    }
    if args.dry_run {
        out.line(text!("Nothing was done (--dry-run)."))?;
        return Ok(Exit::Success);
    }
    out.flush()?;
    let run = session.roll_back(&targets, &args.drive.options()).await?;
    drive(global, session, &args.drive, run).await
}

fn describe(row: &ReleaseRow) -> String {
    format!("release {} ({}, run {})", row.number, row.release.artifact, row.run)
}
