//! `rollout`: shows and decides about deploys that give a new version its requests step by step.

use stagewright_report::wire::ToWire as _;
use stagewright_report::{Printer, text};
use stagewright_session::{DecidedRollout, RolloutDecision, Session, SystemClock};
use stagewright_store::RolloutRow;

use crate::drive::drive;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::global::Global;
use crate::rollout_args::{DecideRolloutArgs, RolloutCommand};
use crate::time::readable;

/// `rollout`.
pub(crate) async fn rollout(
    global: &Global,
    session: &Session,
    command: &RolloutCommand,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let (args, decision) = match command {
        RolloutCommand::Status { environment, json } => {
            status(session, environment.as_deref(), *json, out)?;
            return Ok(Exit::Success);
        }
        RolloutCommand::Promote { full: true, decide } => (decide, RolloutDecision::PromoteFull),
        RolloutCommand::Promote { full: false, decide } => (decide, RolloutDecision::Promote),
        RolloutCommand::Abort(decide) => (decide, RolloutDecision::Abort),
        RolloutCommand::Retry(decide) => (decide, RolloutDecision::Retry),
    };
    let DecideRolloutArgs { environment, by, drive: options } = args;
    match session.decide_rollout(environment, decision, by.as_deref(), &options.options()).await? {
        DecidedRollout::Requested(run) => {
            out.line(text!("Requested. Run {run} carries it out: stagewright logs --follow {run}"))?;
            Ok(Exit::Success)
        }
        DecidedRollout::Continued(run) => drive(global, session, options, *run).await,
    }
}

fn status(session: &Session, environment: Option<&str>, json: bool, out: &mut Printer) -> Result<(), CommandError> {
    let store = session.read_only_store()?;
    let rows = store.environments(false, SystemClock::timestamp())?;
    let rollouts: Vec<_> = rows
        .into_iter()
        .filter(|row| environment.is_none_or(|name| name == row.name))
        .filter_map(|row| Some((row.name, row.rollout?)))
        .collect();
    if json {
        let entries = rollouts.iter().map(|(name, row)| stagewright_api::RolloutStatusEntry {
            environment: name.clone(),
            run: row.run.to_wire(),
            stage: row.stage_id.clone(),
            at: row.at.to_wire(),
            rollout: row.rollout.to_wire(),
        });
        out.json(&entries.collect::<Vec<_>>())?;
        return Ok(());
    }
    match (environment, rollouts.is_empty()) {
        (Some(name), true) => out.line(text!("No deploy to {name} was rolled out step by step."))?,
        (None, true) => out.line(text!("No deploy was rolled out step by step."))?,
        _ => {}
    }
    for (name, row) in &rollouts {
        write(out, name, row)?;
    }
    Ok(())
}

fn write(out: &mut Printer, name: &str, row: &RolloutRow) -> std::io::Result<()> {
    let rollout = &row.rollout;
    let (phase, strategy) = (rollout.phase.as_str(), &rollout.strategy);
    out.line(text!("{name}: {strategy} of {} {phase}, step {} of {}", rollout.service, rollout.step, rollout.steps))?;
    if !rollout.message.is_empty() {
        out.line(text!("  {}", rollout.message))?;
    }
    out.line(text!("  version   {} gets {}% of the requests", rollout.version, rollout.weight))?;
    out.line(text!("  artifact  {}", rollout.artifact))?;
    out.line(text!("  run       {}, stage {}, since {}", row.run, row.stage_id, readable(row.at)))?;
    if !rollout.phase.is_finished() {
        out.line(text!("  decide    stagewright rollout promote|abort|retry {name}"))?;
    }
    Ok(())
}
