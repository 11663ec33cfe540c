//! `service`: manages the services that deploys to the `process` target left running on this machine.

use stagewright_api as api;
use stagewright_engine::Timestamp;
use stagewright_plugin_host::service::{Current, ServiceError, ServiceStatus};
use stagewright_plugin_host::{causes_of, stripped};
use stagewright_process::supervisor::Phase;
use stagewright_report::{Block, Printer, text};
use stagewright_session::{LostService, Session};

use crate::args::ServiceCommand;
use crate::drive::drive;
use crate::drive_args::DriveArgs;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::global::Global;
use crate::time::readable;

pub(crate) async fn service(
    global: &Global,
    session: &Session,
    command: &ServiceCommand,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let services = session.services();
    match command {
        ServiceCommand::Status { rehearsal, json } => {
            let statuses = services.status(*rehearsal).await.map_err(failed)?;
            if *json {
                out.json_pretty(&statuses.iter().map(entry).collect::<Vec<_>>())?;
            } else {
                write_table(out, &statuses)?;
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
        ServiceCommand::Restore { drive } => return restore(global, session, drive, out).await,
        ServiceCommand::Logs { environment, service, lines, rehearsal } => {
            let tail = services.log_tail(environment, service, *lines as usize, *rehearsal);
            let text = tail.await.map_err(failed)?;
            out.block(&Block::of(&stripped(&text)))?;
        }
    }
    Ok(Exit::Success)
}

/// Deploys the current releases of lost services again, each in a run of its own. One that fails doesn't keep the others from
/// being started.
async fn restore(
    global: &Global,
    session: &Session,
    args: &DriveArgs,
    out: &mut Printer,
) -> Result<Exit, CommandError> {
    let lost = session.lost_services().await?;
    if lost.is_empty() && !args.is_json() {
        out.line(text!("All services run that weren't stopped."))?;
    }
    let (mut worst, mut failed) = (Exit::Success, None);
    for lost in lost {
        let LostService { environment, service } = &lost;
        if !args.is_json() {
            out.line(text!("Starting {service} in {environment} again"))?;
        }
        out.flush()?;
        match session.restore_service(&lost, &args.options()).await {
            Ok(run) => {
                let exit = drive(global, session, args, run).await?;
                worst = if worst == Exit::Success { exit } else { worst };
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(worst), |error| Err(error.into()))
}

fn write_table(out: &mut Printer, statuses: &[ServiceStatus]) -> std::io::Result<()> {
    if statuses.is_empty() {
        return out.line(text!("No services have been deployed here."));
    }
    for status in statuses {
        let phase = match status.phase {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Exited => "exited",
        };
        let head = text!("{:<14} {:<16} {phase:<9}", status.environment, status.service);
        match &status.current {
            Some(current) => {
                let since = readable(Timestamp(current.since));
                let run = status.rehearsal.as_ref().map(|run| format!("  in rehearsal {run}")).unwrap_or_default();
                out.line(text!("{head} {}  since {since}{run}", current.address))?;
                out.line(text!("{:<14} {}", "", current.image))?;
            }
            None => out.line(text!("{head} no release was promoted yet"))?,
        }
        if let Some(failure) = &status.failure {
            out.line(text!("{:<14} {failure}", ""))?;
        }
    }
    Ok(())
}

/// The JSON form of a service.
fn entry(status: &ServiceStatus) -> api::ServiceEntry {
    let ServiceStatus { environment, service, current, rehearsal, phase, restarts, failure, is_lost: _ } = status;
    api::ServiceEntry {
        environment: environment.clone(),
        service: service.clone(),
        current: current.as_ref().map(release),
        rehearsal: rehearsal.clone(),
        phase: match phase {
            Phase::Starting => api::ServicePhase::Starting,
            Phase::Running => api::ServicePhase::Running,
            Phase::Exited => api::ServicePhase::Exited,
        },
        restarts: *restarts,
        failure: failure.clone(),
    }
}

fn release(current: &Current) -> api::ServiceRelease {
    let Current { release, image, address, port, ports: _, declared, since, fence } = current;
    api::ServiceRelease {
        release: release.clone(),
        image: image.clone(),
        address: address.clone(),
        port: *port,
        declared: *declared,
        since: *since,
        fence: *fence,
    }
}

fn failed(error: ServiceError) -> CommandError {
    let causes = causes_of(&error);
    let mut failed = CommandError::not_ready(error.message);
    failed.causes = causes;
    failed.hints.extend(error.help);
    failed
}
