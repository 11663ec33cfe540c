//! `grant`: adds the permissions that stages lack to the pipeline file.

use similar::TextDiff;
use stagewright_api::{GrantAnswer, LockChangeEntry};
use stagewright_model::count;
use stagewright_report::{Printer, text};
use stagewright_session::{GrantProposal, GrantRequest, LOCK_FILE, Session};

use super::plan::lacked_grant;
use crate::answers;
use crate::args::GrantArgs;
use crate::console;
use crate::error::CommandError;
use crate::exit::Exit;

pub(crate) async fn grant(session: &Session, args: &GrantArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let file = match (&args.pipeline, &args.run) {
        (None, Some(run)) => session.pipeline_of(run)?,
        (named, _) => session.pipeline(named.as_deref())?,
    };
    let pipeline = session.load(file)?;
    let request = GrantRequest { stages: args.stages.clone(), run: args.run.clone(), with_optional: args.optional };
    let proposal = session.propose_grants(pipeline, &request).await?;
    if args.json {
        let written = args.yes && !proposal.grants.is_empty();
        if written {
            proposal.write()?;
        }
        out.json_pretty(&answer(&proposal, written))?;
        return Ok(Exit::Success);
    }
    offer(&proposal, args.yes, args.dry_run, out).await
}

/// Shows what would be added, and writes it after a confirmation.
pub(super) async fn offer(
    proposal: &GrantProposal,
    yes: bool,
    dry_run: bool,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    if proposal.grants.is_empty() {
        out.line(text!("{} lacks no permissions that are known to be needed.", proposal.file()))?;
        return Ok(Exit::Success);
    }
    show(proposal, out)?;
    if dry_run {
        out.line(text!("Nothing was written (--dry-run)."))?;
        return Ok(Exit::Success);
    }
    let confirmed = if yes { Some(true) } else { confirm(proposal).await? };
    if confirmed != Some(true) {
        out.line(text!("Nothing was written."))?;
        return Ok(if confirmed.is_none() { Exit::Cancelled } else { Exit::NotReady });
    }
    proposal.write()?;
    out.line(text!("Wrote {}.", proposal.file()))?;
    if !proposal.beyond_lock.is_empty() {
        out.line(text!(
            "After a review, record the new permissions in {LOCK_FILE}: stagewright lock {}",
            proposal.file()
        ))?;
    }
    Ok(Exit::Success)
}

fn show(proposal: &GrantProposal, out: &mut Printer) -> std::io::Result<()> {
    let (before, after) = proposal.texts();
    let diff = TextDiff::from_lines(before, after);
    let diff = diff.unified_diff().context_radius(2).header(proposal.file(), proposal.file()).to_string();
    out.lines(diff.lines().map(|line| text!("{line}")))?;
    out.line(text!(""))?;
    out.line(text!(
        "{} to add, which the stages will use, used or were denied:",
        count(proposal.grants.len(), "permission")
    ))?;
    for lacked in &proposal.grants {
        let stage = lacked.grant.table.trim_end_matches(".permissions");
        out.line(text!("  [{stage}] {}", lacked.phrase().unwrap_or_default()))?;
    }
    if !proposal.beyond_lock.is_empty() {
        out.line(text!("With them, the stages may do more than {LOCK_FILE} says:"))?;
        out.lines(proposal.beyond_lock.iter().map(|change| text!("  {change}")))?;
    }
    Ok(())
}

async fn confirm(proposal: &GrantProposal) -> Result<Option<bool>, CommandError> {
    if !console::can_ask() {
        let message = format!("{} was not changed: without a terminal, the change can't be confirmed", proposal.file());
        return Err(CommandError::not_ready(message).hint("review the change, then write it: stagewright grant --yes"));
    }
    Ok(answers::confirm(text!("Write {}? [y/N] ", proposal.file())).await)
}

pub(super) fn answer(proposal: &GrantProposal, written: bool) -> GrantAnswer {
    let beyond_lock = proposal.beyond_lock.iter();
    let beyond_lock = beyond_lock.map(|change| LockChangeEntry { wider: change.is_wider, text: change.text.clone() });
    GrantAnswer {
        file: proposal.file().to_owned(),
        grants: proposal.grants.iter().map(lacked_grant).collect(),
        beyond_lock: beyond_lock.collect(),
        written,
    }
}
