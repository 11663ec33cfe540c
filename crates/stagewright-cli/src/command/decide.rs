//! `approve`, `reject` and `settle`: answer a gate from any terminal.

use stagewright_report::{Printer, captured, text};
use stagewright_session::{GateAnswer, RecordedAnswer, Session, Settlement, Verdict};

use crate::args::{self, DecideArgs, SettleArgs, SettledOutcome};
use crate::error::CommandError;
use crate::exit::Exit;

/// `approve` and `reject`.
pub(crate) fn decide(
    session: &Session,
    args: &DecideArgs,
    approved: bool,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let fields = args::pairs("--field", &args.fields)?;
    let (verdict, verb) = match approved {
        true => (Verdict::Approve(fields), "Approved"),
        false => (Verdict::Reject(fields), "Rejected"),
    };
    let answer = GateAnswer {
        run: args.run.clone(),
        stage: args.stage.clone(),
        by: args.by.clone(),
        reason: args.reason.clone(),
        verdict,
    };
    show(&session.answer(&answer)?, verb, out)
}

/// `settle`: records the outcome of an interrupted attempt.
pub(crate) fn settle(session: &Session, args: &SettleArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let settlement = match args.finding {
        SettledOutcome::Applied => Settlement::Applied,
        SettledOutcome::NotStarted => Settlement::NotStarted,
        SettledOutcome::Failed => Settlement::Failed,
    };
    let answer = GateAnswer {
        run: args.run.clone(),
        stage: Some(args.stage.clone()),
        by: args.by.clone(),
        reason: args.reason.clone(),
        verdict: Verdict::Settle(settlement),
    };
    show(&session.answer(&answer)?, "Settled", out)
}

fn show(recorded: &RecordedAnswer, verb: &str, out: &mut Printer) -> Result<Exit, CommandError> {
    let RecordedAnswer { open, decision, missing, needs_resume } = recorded;
    let (run, stage) = (&open.run, &open.stage_id);
    let files = open.gate.capture.as_ref().filter(|capture| decision.approved && capture.files > 0).map(captured);
    let files = files.map(|files| text!(", covering {files}")).unwrap_or_default();
    let shown = missing.as_ref().map(|missing| text!(": {missing}")).unwrap_or_default();
    out.line(text!("{verb}: {stage} of run {run}, by {}{files}{shown}.", decision.by))?;
    if *needs_resume {
        out.line(text!("No process drives the run. To continue it: stagewright resume {run}"))?;
    }
    Ok(Exit::Success)
}
