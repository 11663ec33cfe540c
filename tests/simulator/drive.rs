//! The processes that drive a simulated run: each one drives it until it dies or the run suspends, then the next one starts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use stagewright_engine::{DriveError, Input, Outcome, Ports, RunCommand, RunSummary, RunValues, Scheduler, drive};
use stagewright_model::StageIndex;
use tokio::sync::mpsc;

use crate::coordinator::SimCoordinator;
use crate::process::ProcessFuture;
use crate::runner::SimRunner;
use crate::store::SimStore;
use crate::world::{END, World};

/// Drives a run with one process after another until it is over.
pub(crate) async fn drive_run(world: Arc<World>, run: usize) {
    let start = world.lock().random_duration(0..120_000) * u32::try_from(run).expect("few runs");
    tokio::time::sleep(start).await;
    let mut resumes = world.lock().rng.u32(0..=2);
    let mut from = Vec::new();
    while world.lock().now < END {
        let ended = one_process(&world, run, std::mem::take(&mut from)).await;
        let inbox = {
            let mut inner = world.lock();
            let one = &mut inner.runs[run];
            one.die();
            one.inbox.len()
        };
        match ended {
            Some(Ok(RunSummary { conclusion: Some(conclusion), .. })) => {
                let mut inner = world.lock();
                if conclusion == Outcome::Succeeded || resumes == 0 || inner.is_calm() {
                    inner.runs[run].over = true;
                    return;
                }
                resumes -= 1;
                inner.runs[run].inbox.retain(|command| !matches!(command, RunCommand::Cancel { .. }));
                if inner.roll(25) {
                    let count = inner.runs[run].pipeline.plan.stages.len();
                    let named = StageIndex(u32::try_from(inner.rng.usize(0..count)).expect("few stages"));
                    inner.allow_repeat(run, named, true);
                    from.push(named);
                }
            }
            Some(Ok(_)) => wait_for_news(&world, run, inbox).await,
            Some(Err(DriveError::Illegal(error))) => {
                world.lock().violate(|| format!("r{run}: {error}"));
                return;
            }
            Some(Err(DriveError::Store(_))) | None => {}
        }
        let pause = world.lock().random_duration(0..90_000);
        tokio::time::sleep(pause).await;
    }
}

/// Waits until a suspended run is to be resumed: when a person has answered, or after a while.
async fn wait_for_news(world: &World, run: usize, inbox: usize) {
    for _ in 0..20 {
        let pause = world.lock().random_duration(5_000..60_000);
        tokio::time::sleep(pause).await;
        if world.lock().runs[run].inbox.len() > inbox {
            return;
        }
    }
}

/// None when the process died.
async fn one_process(world: &Arc<World>, run: usize, from: Vec<StageIndex>) -> Option<Result<RunSummary, DriveError>> {
    let (process, scheduler, first, attended) = boot(world, run, from)?;
    let (sender, control) = mpsc::channel(64);
    // Answers that were given while no process drove the run are delivered right away.
    let first_wishes = if attended { Vec::new() } else { vec![RunCommand::Suspend] };
    let known = deliver(world, run, &sender, first_wishes);
    let pump = tokio::spawn(pump(Arc::clone(world), run, process, sender, known));
    let store = SimStore { world: Arc::clone(world), run, process };
    let ports = Ports {
        runner: Arc::new(SimRunner { world: Arc::clone(world), run, process }),
        store: Box::new(store.clone()),
        coordinator: Box::new(SimCoordinator { world: Arc::clone(world), run, process }),
        logs: Box::new(store.clone()),
        clock: Arc::new(store.clone()),
        observers: vec![Box::new(store)],
        control,
    };
    let ended = ProcessFuture::mortal(world, run, process, drive(scheduler, ports, first)).await;
    pump.abort();
    ended
}

fn boot(world: &World, run: usize, from: Vec<StageIndex>) -> Option<(u32, Scheduler, Input, bool)> {
    let mut inner = world.lock();
    let process = inner.boot(run);
    inner.log(|| format!("r{run} gets process {process}"));
    let attended = inner.is_calm() || inner.roll(70);
    let binding = if inner.roll(10) { "another" } else { "one" };
    let one = &mut inner.runs[run];
    one.binding = binding;
    let plan = Arc::clone(&one.pipeline.plan);
    let mut values =
        RunValues { plugins: one.pipeline.facts.clone(), binding: Some(binding.to_owned()), ..RunValues::default() };
    one.named.clone_from(&from);
    one.left_out = None;
    let (id, jobs) = (one.id.clone(), one.jobs);
    if inner.runs[run].journal.is_empty() {
        if inner.roll(10) {
            let left_out = StageIndex(inner.rng.u32(0..3));
            inner.runs[run].left_out = Some(left_out);
            values.left_out.insert(left_out, "left out".to_owned());
            let outputs = BTreeMap::from([("attempt".to_owned(), json!(0))]);
            values.inherited.insert(left_out, (stagewright_engine::RunId("before".to_owned()), outputs));
        }
        return Some((process, Scheduler::new(plan, values, jobs), Input::Start(id), attended));
    }
    match Scheduler::restore(plan, values, jobs, &inner.runs[run].journal) {
        Ok(scheduler) => {
            let first = Input::Resume { reason: "again".to_owned(), from, changed: Vec::new(), pipeline: None };
            Some((process, scheduler, first, attended))
        }
        Err(error) => {
            inner.violate(|| format!("r{run} can't be restored: {error}"));
            None
        }
    }
}

/// Sends as many commands of the inbox as the channel has room for. Returns the index of the next one.
fn deliver(world: &World, run: usize, sender: &mpsc::Sender<RunCommand>, first: Vec<RunCommand>) -> usize {
    let mut inner = world.lock();
    for command in first {
        sender.try_send(command).expect("an empty channel");
    }
    for number in 0..inner.runs[run].inbox.len() {
        let command = inner.runs[run].inbox[number].clone();
        if !inner.is_new(run, &command) {
            continue;
        }
        if sender.try_send(command.clone()).is_err() {
            return number;
        }
        inner.runs[run].facts.record_delivery(&command);
    }
    inner.runs[run].inbox.len()
}

/// Sends commands to the process. A new process gets all of them again, because an answer may arrive twice but must not be
/// lost; a signal only until it is recorded.
async fn pump(world: Arc<World>, run: usize, process: u32, sender: mpsc::Sender<RunCommand>, mut next: usize) {
    loop {
        let new: Vec<RunCommand> = {
            let inner = world.lock();
            if !inner.runs[run].is_driven_by(process) {
                return;
            }
            let new =
                inner.runs[run].inbox.iter().skip(next).filter(|command| inner.is_new(run, command)).cloned().collect();
            next = inner.runs[run].inbox.len();
            new
        };
        for command in new {
            world.lock().runs[run].facts.record_delivery(&command);
            if sender.send(command).await.is_err() {
                return;
            }
        }
        let pause = Duration::from_millis(world.lock().rng.u64(200..4_000));
        tokio::time::sleep(pause).await;
    }
}
