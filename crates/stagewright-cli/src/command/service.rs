//! `service`: what deploys to the `process` target left running on this machine.

use stagewright_engine::Timestamp;
use stagewright_plugin_host::service::{ServiceError, ServiceStatus};
use stagewright_plugin_host::stripped;
use stagewright_report::{Block, Printer, text};
use stagewright_session::Session;

use crate::args::ServiceCommand;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::time::readable;

pub(crate) async fn service(
    session: &Session,
    command: &ServiceCommand,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let services = session.services();
    match command {
        ServiceCommand::Status { rehearsal, json } => {
            let found = services.status(*rehearsal).await.map_err(failed)?;
            if *json {
                out.json_pretty(&found)?;
            } else {
                write_table(out, &found)?;
            }
        }
        ServiceCommand::Stop { environment: Some(environment), service: Some(service), rehearsal } => {
            services.stop(environment, service, *rehearsal).await.map_err(failed)?;
            out.line(text!("Stopped {service} in {environment}. Its releases are kept."))?;
        }
        ServiceCommand::Stop { .. } => {
            services.stop_all(true).await.map_err(failed)?;
            out.line(text!("Stopped the services of all rehearsals."))?;
        }
        ServiceCommand::Logs { environment, service, lines, rehearsal } => {
            let tail = services.log_tail(environment, service, *lines as usize, *rehearsal);
            let text = tail.await.map_err(failed)?;
            out.block(&Block::of(&stripped(&text)))?;
        }
    }
    Ok(Exit::Success)
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

fn failed(error: ServiceError) -> CommandError {
    let causes = error.causes();
    let mut failed = CommandError::not_ready(error.message);
    failed.causes = causes;
    failed.hints.extend(error.help);
    failed
}
