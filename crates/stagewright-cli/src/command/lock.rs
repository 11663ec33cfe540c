//! `lock`: records what pipelines may do, for review and for `--locked`.

use stagewright_report::{Printer, text};
use stagewright_session::{LOCK_FILE, Session};

use crate::args::LockArgs;
use crate::error::CommandError;
use crate::exit::Exit;

pub(crate) async fn lock(session: &Session, args: &LockArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let all = args.pipelines.is_empty();
    let names = match all {
        true => session.repository().all_pipelines()?,
        false => args.pipelines.clone(),
    };
    // If every pipeline is locked, the file is rewritten completely, and it doesn't matter if the old one can't be parsed.
    // If only some are, the entries of the others are taken from the old file.
    let mut lock = session.update_lock(all, !args.check)?;
    for name in names {
        let locked = lock.add(session.pipeline(Some(&name))?).await?;
        let known = if locked.is_new { ", new" } else { "" };
        out.line(text!("{}  {}{known}", locked.pipeline, locked.file))?;
        for change in &locked.changes {
            out.line(text!("  {change}"))?;
        }
    }
    for gone in lock.gone() {
        out.line(text!("{gone}"))?;
        out.line(text!("  - the pipeline was removed"))?;
    }
    if lock.is_current() {
        out.line(text!("{LOCK_FILE} is up to date."))?;
        return Ok(Exit::Success);
    }
    if args.check {
        return Err(CommandError::not_ready(format!("{LOCK_FILE} is not up to date"))
            .hint("review the changes, then record them: `stagewright lock`"));
    }
    lock.write()?;
    out.line(text!("Wrote {LOCK_FILE}."))?;
    Ok(Exit::Success)
}
