//! `signal`: ends the wait of a stage, from any terminal.

use serde_json::Value as Json;
use stagewright_report::{Printer, text};
use stagewright_session::{SentSignal, Session, SignalRequest};

use crate::args::SignalArgs;
use crate::error::CommandError;
use crate::exit::Exit;

pub(crate) fn signal(session: &Session, args: &SignalArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let payload = args.payload.as_deref().map_or(Ok(Json::Null), serde_json::from_str).map_err(|error| {
        CommandError::usage(format!("invalid JSON in --payload: {error}"))
            .hint("quote texts twice, as in --payload '\"done\"'")
    })?;
    let request = SignalRequest {
        run: args.run.clone(),
        token: args.token.clone(),
        payload,
        stage: args.stage.clone(),
        by: args.by.clone(),
    };
    let SentSignal { run, ends, by, needs_resume } = session.signal(&request)?;
    match ends {
        Some(stage) => out.line(text!("Signalled: {stage} of run {run}, by {by}."))?,
        None => out.line(text!(
            "Kept: no stage of run {run} waits for {} yet. The signal ends its wait as soon as that begins.",
            args.token
        ))?,
    }
    if needs_resume {
        out.line(text!("No process drives the run. To continue it: stagewright resume {run}"))?;
    }
    Ok(Exit::Success)
}
