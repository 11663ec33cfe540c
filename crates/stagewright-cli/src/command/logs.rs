//! `logs`: the logs of a run, of all its stages or one of them, as they are or as they are written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use stagewright_engine::{EventKind, Outcome, RunId, StageSummary, Stream};
use stagewright_model::{StageIndex, count, list};
use stagewright_report::{Block, Printable, Printer, text};
use stagewright_session::{Session, stages_of};
use stagewright_store::{LogFollower, LogLine, RunPhase, Store};

use super::history::exit_of;
use crate::args::LogsArgs;
use crate::console;
use crate::error::CommandError;
use crate::exit::Exit;

/// How often a run of another process is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How often in a row no process must drive a run until it counts as interrupted: between the record of a run and the lock
/// of its process is a moment.
const UNATTENDED: u32 = 5;

/// `logs`.
pub(crate) fn logs(session: &Session, args: &LogsArgs, out: &mut Printer) -> Result<Exit, CommandError> {
    let store = session.read_only_store()?;
    let run = store.find(&args.run)?;
    if args.follow {
        return FollowedRun::new(store, run)?.follow(args, out);
    }
    let stages = stages_of(&store, &run)?;
    let chosen = chosen(&stages, &run, args.stage.as_deref())?;
    let is_single = chosen.len() == 1;
    for index in chosen {
        let stage = &stages[index.get()];
        let attempts = store.log_attempts(&run, index)?;
        let shown = match (args.attempt, is_single) {
            (Some(attempt), _) if !attempts.contains(&attempt) => {
                return Err(CommandError::not_ready(format!("`{}` has no attempt {attempt}", stage.id))
                    .hint(format!("it has {} with a log", count(attempts.len(), "attempt"))));
            }
            (Some(attempt), _) => vec![attempt],
            (None, true) => attempts.last().copied().into_iter().collect(),
            (None, false) => attempts,
        };
        for attempt in shown {
            for line in store.read_log(&run, index, attempt) {
                show(out, stage, attempt, &line?, is_single)?;
            }
        }
    }
    Ok(Exit::Success)
}

/// The stages with a name, or the one with an id; all without one.
fn chosen(stages: &[Arc<StageSummary>], run: &RunId, name: Option<&str>) -> Result<Vec<StageIndex>, CommandError> {
    let matches = |stage: &StageSummary| name.is_none_or(|name| stage.id == name || stage.name == name);
    let indices = (0_u32..).map(StageIndex).zip(stages).filter(|(_, stage)| matches(stage));
    let chosen = indices.map(|(index, _)| index).collect::<Vec<_>>();
    match name {
        Some(name) if chosen.is_empty() => {
            let ids = list(stages.iter().map(|stage| &stage.id));
            Err(CommandError::usage(format!("run {run} has no stage `{name}`")).hint(format!("its stages are: {ids}")))
        }
        _ => Ok(chosen),
    }
}

/// Shows a line, with its stage unless that is the only one.
fn show(
    out: &mut Printer,
    stage: &StageSummary,
    attempt: u32,
    line: &LogLine,
    is_single: bool,
) -> Result<(), CommandError> {
    let mark = if line.stream == Stream::Stderr { "!" } else { " " };
    let text = Printable::prose(&line.text);
    let line = match is_single {
        true => text,
        false => text!("{:<24}{mark}{text}", format!("{} #{attempt}", stage.id)),
    };
    Ok(out.verbatim(&Block::from_iter([line]))?)
}

/// A run that is followed until no more lines can come.
struct FollowedRun {
    store: Store,
    run: RunId,
    stages: Vec<Arc<StageSummary>>,
    /// The `seq` of the first event that hasn't been read.
    next: u64,
    /// How stages have ended, so far.
    ended: BTreeMap<StageIndex, Outcome>,
    unattended: u32,
}

impl FollowedRun {
    fn new(store: Store, run: RunId) -> Result<FollowedRun, CommandError> {
        let mut followed =
            FollowedRun { store, run, stages: Vec::new(), next: 0, ended: BTreeMap::new(), unattended: 0 };
        // The first event of a run comes a moment after its record.
        while followed.stopped()?.is_none() && followed.store.events(&followed.run)?.is_empty() {
            sleep(POLL);
        }
        followed.stages = stages_of(&followed.store, &followed.run)?;
        Ok(followed)
    }

    /// Shows all lines, and waits for more until the run, or all chosen stages, have ended.
    fn follow(mut self, args: &LogsArgs, out: &mut Printer) -> Result<Exit, CommandError> {
        let chosen = chosen(&self.stages, &self.run, args.stage.as_deref())?;
        let is_single = chosen.len() == 1;
        let mut follower = LogFollower::new(self.run.clone());
        let first = match &chosen[..] {
            [only] => self.store.log_attempts(&self.run, *only)?.last().copied().unwrap_or(1),
            _ => 1,
        };
        loop {
            // First whether more lines can come, and then those that have come: in the other order, those in between would
            // be missed.
            let stopped = self.stopped()?;
            self.read_journal()?;
            let have_ended = args.stage.is_some() && chosen.iter().all(|stage| self.ended.contains_key(stage));
            let wanted = |stage: StageIndex, attempt: u32| attempt >= first && chosen.contains(&stage);
            follower.read(&self.store, wanted, |stage, attempt, line| {
                show(out, &self.stages[stage.get()], attempt, line, is_single)
            })?;
            if have_ended || stopped.is_some() {
                return Ok(self.finish(args, &chosen, stopped.filter(|_| !have_ended)));
            }
            sleep(POLL);
        }
    }

    /// How the run stopped; none while a process drives it.
    fn stopped(&mut self) -> Result<Option<RunPhase>, CommandError> {
        let phase = self.store.phase(&self.run)?;
        self.unattended = if phase == RunPhase::Interrupted { self.unattended + 1 } else { 0 };
        Ok(match phase {
            RunPhase::Running => None,
            RunPhase::Interrupted if self.unattended < UNATTENDED => None,
            other => Some(other),
        })
    }

    fn read_journal(&mut self) -> Result<(), CommandError> {
        for event in self.store.events_from(&self.run, self.next)? {
            self.next = event.seq + 1;
            match event.kind {
                EventKind::StageEnded { stage, conclusion, .. } => drop(self.ended.insert(stage, conclusion)),
                EventKind::RunResumed { again, .. } => {
                    self.ended.retain(|stage, _| !again.contains(stage));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Says how to go on with a run that hasn't ended, and returns the exit code.
    fn finish(&self, args: &LogsArgs, chosen: &[StageIndex], stopped: Option<RunPhase>) -> Exit {
        let run = &self.run;
        match stopped {
            Some(RunPhase::Waiting) => {
                console::say(text!("run {run} waits at a gate: `stagewright runs --waiting` shows it"));
            }
            Some(RunPhase::Interrupted) => {
                console::say(text!("the process of run {run} has ended; to continue it: stagewright resume {run}"));
            }
            _ => {}
        }
        if !args.exit_status {
            return Exit::Success;
        }
        match stopped {
            Some(RunPhase::Ended(conclusion)) => exit_of(Some(conclusion)),
            Some(RunPhase::Waiting) => Exit::Waiting,
            Some(RunPhase::Interrupted | RunPhase::Running) => Exit::RunFailed,
            None => {
                let mut exits = chosen.iter().filter_map(|stage| self.ended.get(stage)).map(|end| exit_of(Some(*end)));
                exits.find(|exit| *exit != Exit::Success).unwrap_or(Exit::Success)
            }
        }
    }
}
