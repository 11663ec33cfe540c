//! `run --watch`: a run after each change of the files that stages read.

use std::future::Future;
use std::pin::{Pin, pin};

use stagewright_engine::{Interrupt, RunCommand};
use stagewright_report::text;
use stagewright_session::{FileWatch, Run, RunRequest, Session, StartOutcome};

use crate::drive::drive;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::global::Global;
use crate::run_args::RunArgs;
use crate::{console, signals};

/// Runs until a signal ends it, and returns the exit code of the last run. A mistake in the files doesn't end it, except
/// before the first run.
pub(super) async fn watch(
    global: &Global,
    session: &Session,
    args: &RunArgs,
    request: &RunRequest,
) -> Result<Exit, CommandError> {
    let mut stop = pin!(signals::any());
    let mut files = None;
    loop {
        let started = begin(session, args, request, &mut files).await;
        let watching = match (&mut files, &started) {
            (Some(files), _) => files,
            (None, Err(_)) => return started.map(|_| Exit::Success),
            (None, Ok(_)) => return Err(CommandError::internal("a run started without its files being watched")),
        };
        let exit = match started {
            Ok(run) => match attend(global, session, args, run, watching, stop.as_mut()).await? {
                AfterRun::Changed => continue,
                AfterRun::Stopped(exit) => return Ok(exit),
                AfterRun::Ended(exit) => exit,
            },
            Err(error) => {
                console::show(&error.render());
                error.exit
            }
        };
        console::say(text!("waiting for changes; Ctrl-C ends"));
        tokio::select! {
            () = &mut stop => return Ok(exit),
            changed = watching.changed() => console::say(text!("changed: {}", changed?)),
        }
    }
}

/// Loads the pipeline, watches its files, and starts a run. The pipeline file is read again once it is watched, so that no
/// change is missed. If the files can't be loaded, those that were watched before still are.
async fn begin(
    session: &Session,
    args: &RunArgs,
    request: &RunRequest,
    files: &mut Option<FileWatch>,
) -> Result<Box<Run>, CommandError> {
    let read = || session.pipeline(args.pipeline.pipeline.as_deref());
    let own = args.drive.junit.iter().filter_map(|path| std::path::absolute(path).ok()).collect::<Vec<_>>();
    let pipeline = loop {
        let pipeline = session.load(read()?)?;
        *files = Some(session.watch(&pipeline, request, &own).await?);
        if read()?.text == pipeline.file.text {
            break pipeline;
        }
    };
    match session.start(pipeline, request).await? {
        StartOutcome::Run(run) => Ok(run),
        StartOutcome::NotStarted { .. } => Err(CommandError::internal("a watched run depends on what has changed")),
    }
}

/// What follows a run.
enum AfterRun {
    /// Files have changed meanwhile, which cancelled it.
    Changed,
    /// A signal has cancelled it.
    Stopped(Exit),
    Ended(Exit),
}

/// Drives a run, and cancels it once files change.
async fn attend(
    global: &Global,
    session: &Session,
    args: &RunArgs,
    run: Box<Run>,
    files: &mut FileWatch,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<AfterRun, CommandError> {
    let control = run.control();
    let mut driving = pin!(drive(global, session, &args.drive, *run));
    let cancel = async |reason: String| {
        let _ = control.send(RunCommand::Cancel { how: Interrupt::Graceful, reason }).await;
    };
    let (mut is_stopped, mut changed) = (false, None);
    let exit = loop {
        tokio::select! {
            exit = &mut driving => break exit?,
            // The run's own handler cancels it as well, unless the signal came before the run. The second request of two
            // has no effect.
            () = &mut stop, if !is_stopped => {
                is_stopped = true;
                cancel("a signal ended `--watch`".to_owned()).await;
            }
            found = files.changed_during_run(), if changed.is_none() => {
                let reason = match &found {
                    Ok(paths) => format!("{paths} changed"),
                    Err(_) => "files can't be watched any more".to_owned(),
                };
                changed = Some(found);
                cancel(reason).await;
            }
        }
    };
    let is_changed = changed.transpose()?.is_some();
    files.run_ended()?;
    Ok(match (is_stopped, is_changed) {
        (true, _) => AfterRun::Stopped(exit),
        (false, true) => AfterRun::Changed,
        (false, false) => AfterRun::Ended(exit),
    })
}
