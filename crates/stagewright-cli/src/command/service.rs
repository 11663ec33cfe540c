//! `service`: what deploys to the `process` target left running on this machine.

use std::path::Path;

use stagewright_engine::Timestamp;
use stagewright_plugin_host::CapabilityError;
use stagewright_plugin_host::service::ServiceStatus;
use stagewright_process::supervisor;
use stagewright_report::{Block, Printer, text};

use crate::args::ServiceCommand;
use crate::clock::readable;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::host::services_of;
use crate::repository::Repository;

pub(crate) fn service(
    repository: &Repository,
    command: &ServiceCommand,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let services = services_of(repository)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| CommandError::internal("can't start the runtime").caused_by(error))?;
    match command {
        ServiceCommand::Status { rehearsal, json } => {
            let found = runtime.block_on(services.status(*rehearsal)).map_err(failed)?;
            if *json {
                out.json_pretty(&found)?;
            } else {
                write_table(out, &found)?;
            }
        }
        ServiceCommand::Stop { environment: Some(environment), service: Some(service), rehearsal } => {
            runtime.block_on(services.stop(environment, service, *rehearsal)).map_err(failed)?;
            out.line(text!("Stopped {service} in {environment}. Its releases are kept."))?;
        }
        ServiceCommand::Stop { .. } => {
            runtime.block_on(services.stop_all(true)).map_err(failed)?;
            out.line(text!("Stopped the services of all rehearsals."))?;
        }
        ServiceCommand::Logs { environment, service, lines, rehearsal } => {
            let tail = services.log_tail(environment, service, *lines as usize, *rehearsal);
            let text = runtime.block_on(tail).map_err(failed)?;
            out.block(&Block::of(&text))?;
        }
    }
    Ok(Exit::Success)
}

/// The body of the hidden subcommand that keeps one service running.
pub(crate) fn supervise(directory: &Path) -> Result<Exit, CommandError> {
    match supervisor::supervise(directory) {
        0 => Ok(Exit::Success),
        _ => Ok(Exit::Internal),
    }
}

fn write_table(out: &mut Printer, found: &[ServiceStatus]) -> std::io::Result<()> {
    if found.is_empty() {
        return out.line(text!("No service was deployed here yet."));
    }
    for status in found {
        let phase = serde_json::to_value(status.phase).ok().and_then(|phase| phase.as_str().map(str::to_owned));
        let phase = phase.unwrap_or_default();
        let head = text!("{:<14} {:<16} {phase:<9}", status.environment, status.service);
        match &status.current {
            Some(current) => {
                let since = readable(Timestamp(current.since));
                let run = status.rehearsal.as_ref().map(|run| format!("  in rehearsal {run}")).unwrap_or_default();
                out.line(text!("{head} {}  since {since}{run}", current.address))?;
                out.line(text!("{:<14} {}", "", current.image))?;
            }
            None => out.line(text!("{head} nothing was promoted yet"))?,
        }
        if let Some(failure) = &status.failure {
            out.line(text!("{:<14} {failure}", ""))?;
        }
    }
    Ok(())
}

fn failed(error: CapabilityError) -> CommandError {
    let mut failed = CommandError::not_ready(error.message);
    failed.causes = error.causes;
    failed.hints.extend(error.help);
    failed
}
