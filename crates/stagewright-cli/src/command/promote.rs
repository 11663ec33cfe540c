//! `promote`: deploys what is known good in one environment to another.

use stagewright_model::duration;
use stagewright_report::{Printer, text};
use stagewright_session::{PromotionRequest, Session};

use crate::args::PromoteArgs;
use crate::drive::drive;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::global::Global;

/// `promote`.
pub(crate) async fn promote(
    global: &Global,
    session: &Session,
    args: &PromoteArgs,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let soak = args.soak.as_deref().map(|text| {
        duration(text).ok_or_else(|| {
            CommandError::usage(format!("`--soak {text}` isn't a duration")).hint("write it as in `90m`, `12h` or `3d`")
        })
    });
    let request = PromotionRequest {
        release: args.release.clone(),
        to: args.environment.clone(),
        soak: soak.transpose()?,
        accept_changes: args.accept_changes,
        options: args.drive.options(),
    };
    let row = session.promotable(&request)?;
    if !args.drive.is_json() || args.dry_run {
        let (from, artifact) = (&row.release.environment, &row.release.artifact);
        out.line(text!("Promoting release {} of {from} to {}: {artifact}", row.number, args.environment))?;
    }
    if args.dry_run {
        out.line(text!("Nothing was done (--dry-run)."))?;
        return Ok(Exit::Success);
    }
    out.flush()?;
    let run = session.promote(&request).await?;
    drive(global, session, &args.drive, run).await
}
