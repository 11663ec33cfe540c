//! `run` and `rerun`.

use stagewright_report::text;
use stagewright_session::{RerunOptions, RunMode, RunRequest, Session, StartOutcome};

mod watch;

use crate::args;
use crate::console;
use crate::drive::drive;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::global::Global;
use crate::run_args::{EventName, RerunArgs, RunArgs};

/// `run`.
pub(crate) async fn run(global: &Global, session: &Session, args: &RunArgs) -> Result<Exit, CommandError> {
    let mode = match args.rehearse {
        true => RunMode::Rehearsal { offline: args.offline },
        false => RunMode::Real,
    };
    let request = request(args, mode)?;
    if args.watch {
        return watch::watch(global, session, args, &request).await;
    }
    let pipeline = session.load(session.pipeline(args.pipeline.pipeline.as_deref())?)?;
    let file = pipeline.file.name.clone();
    match session.start(pipeline, &request).await? {
        StartOutcome::Run(run) => drive(global, session, &args.drive, *run).await,
        StartOutcome::NotStarted { reason } => {
            console::say(text!("{file} isn't run: {reason}"));
            Ok(Exit::Success)
        }
    }
}

pub(super) fn request(args: &RunArgs, mode: RunMode) -> Result<RunRequest, CommandError> {
    Ok(RunRequest {
        inputs: args::pairs("--input", &args.pipeline.inputs)?.into_iter().collect(),
        only: args.only.clone(),
        skip: args.skip.clone(),
        affected: args.affected,
        event: args.event.map(EventName::event),
        pull_request: args.pull_request,
        base: args.base.clone(),
        mode,
        allowed_hosts: args.learning.allow_host.clone(),
        keep_services: args.keep_services,
        options: args.drive.options(),
    })
}

/// `rerun`.
pub(crate) async fn rerun(global: &Global, session: &Session, args: &RerunArgs) -> Result<Exit, CommandError> {
    let request = RerunOptions {
        accept_changes: args.accept_changes,
        failed_tests: args.failed_tests,
        options: args.drive.options(),
    };
    let run = session.rerun(&args.run, &request).await?;
    drive(global, session, &args.drive, run).await
}
