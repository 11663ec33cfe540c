//! `init`: writes a pipeline for a repository that has none.

use stagewright_api::{ProposedPipelineAnswer, ProposedStageEntry};
use stagewright_model::{Permission, Permissions, Stage, count, list};
use stagewright_report::{Printer, text};
use stagewright_session::{PipelineProposal, PipelineRequest, Session};

use crate::args::InitArgs;
use crate::command::plan::permissions;
use crate::error::CommandError;
use crate::exit::Exit;

pub(crate) fn init(session: &Session, args: &InitArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let proposal = session.propose_pipeline(&PipelineRequest { file: args.output.clone(), name: args.name.clone() })?;
    let is_written = !args.dry_run;
    if is_written {
        proposal.write()?;
    }
    match (args.json, is_written) {
        (true, _) => out.json_pretty(&answer(&proposal, is_written))?,
        (false, true) => show(&proposal, out)?,
        (false, false) => out.lines(proposal.text.lines().map(|line| text!("{line}")))?,
    }
    Ok(Exit::Success)
}

fn show(proposal: &PipelineProposal, out: &mut Printer) -> std::io::Result<()> {
    out.line(text!("Found {}.", proposal.found.join(", ")))?;
    out.lines(proposal.left_out.iter().map(|left_out| text!("Note: {left_out}.")))?;
    let stages = &proposal.plan.stages;
    out.line(text!("Wrote {} with {}, which may do only this:", proposal.file, count(stages.len(), "stage")))?;
    for (names, granted) in by_permissions(stages) {
        out.line(text!("  {}", list(names)))?;
        for kind in Permission::ALL {
            let entries = granted.of(kind);
            if !entries.is_empty() {
                out.line(text!("       {:<12} {}", kind.key(), list(entries)))?;
            }
        }
    }
    out.line(text!(""))?;
    out.line(text!("Next steps:"))?;
    out.line(text!("  stagewright plan  # shows the stages in order, and what each may do"))?;
    out.line(text!("  stagewright run   # runs them"))
}

/// The stages with the same permissions together.
fn by_permissions(stages: &[Stage]) -> Vec<(Vec<&str>, &Permissions)> {
    let mut groups: Vec<(Vec<&str>, &Permissions)> = Vec::new();
    for stage in stages {
        match groups.iter_mut().find(|(_, granted)| **granted == *stage.permissions) {
            Some((names, _)) => names.push(&stage.id),
            None => groups.push((vec![&stage.id], &stage.permissions)),
        }
    }
    groups
}

fn answer(proposal: &PipelineProposal, written: bool) -> ProposedPipelineAnswer {
    let stages = proposal.plan.stages.iter();
    let stages =
        stages.map(|stage| ProposedStageEntry { id: stage.id.clone(), permissions: permissions(&stage.permissions) });
    ProposedPipelineAnswer {
        file: proposal.file.clone(),
        text: proposal.text.clone(),
        found: proposal.found.clone(),
        left_out: proposal.left_out.clone(),
        stages: stages.collect(),
        written,
    }
}
