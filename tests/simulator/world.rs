//! The shared state of a simulated world: its runs, the faults to come, and the first violation.
//!
//! A world is single-threaded and draws all random numbers from one seeded generator, so that it is determined by its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use fastrand::Rng;
use stagewright_engine::{Event, RunCommand, RunId, Signal, Timestamp};
use stagewright_model::StageIndex;
use tokio::time::Instant;

use crate::coordinator::CoordinatorState;
use crate::oracle::{Facts, Truth, name_of};
use crate::plans::{self, Pipeline, between, chance};
use crate::target::Target;

/// The wall-clock time at which a world begins, in milliseconds since the Unix epoch.
pub(crate) const BASE: u64 = 1_700_000_000_000;

/// From this time there are no faults, plugins behave, and people cancel what doesn't end.
pub(crate) const CALM: Duration = Duration::from_secs(1_800);

/// The time by which every run must have ended.
pub(crate) const END: Duration = Duration::from_secs(4_500);

/// A fault of the process that drives a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies. What it appended is kept.
    Crash,
    /// The machine loses power. What wasn't durable is lost.
    PowerCut,
    /// Appending to the journal fails.
    DiskFull,
    /// Calls of the coordinator fail.
    CoordinatorFails,
    /// The process stalls.
    Stall,
}

/// A run, and the process that drives it.
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) pipeline: Pipeline,
    pub(crate) jobs: usize,
    pub(crate) journal: Vec<Event>,
    /// How many events of the journal are durable.
    pub(crate) durable: usize,
    /// The lengths of the journal after each append, which is atomic.
    pub(crate) appends: Vec<usize>,
    /// The model of the run.
    pub(crate) truth: Truth,
    /// The model at earlier lengths of the journal, which a power cut may restore.
    past: Vec<(usize, Truth)>,
    /// What happened outside the engine.
    pub(crate) facts: Facts,
    /// The stage that was excluded when it started.
    pub(crate) left_out: Option<StageIndex>,
    /// The stages that a person named when it was last resumed.
    pub(crate) named: Vec<StageIndex>,
    /// Commands and answers from other terminals. They are kept when the process dies.
    pub(crate) inbox: Vec<RunCommand>,
    /// All signals that were sent to it, by number from 1.
    pub(crate) signals: Vec<Signal>,
    /// The reasons of all requested cancellations.
    pub(crate) cancels: BTreeSet<String>,
    /// The binding of approvals, for the current process.
    pub(crate) binding: &'static str,
    /// Counts the processes that drove the run.
    pub(crate) process: u32,
    pub(crate) alive: bool,
    /// How many steps are left until the fault.
    pub(crate) fuse: Option<(u32, Fault)>,
    pub(crate) disk_full: bool,
    pub(crate) coordinator_fails: bool,
    pub(crate) stalled_until: Option<Instant>,
    /// Whether a process was ever stalled: then time limits aren't checked.
    pub(crate) stalls: bool,
    /// Wakes futures that have to notice the death of the process.
    pub(crate) wakers: Vec<Waker>,
    /// Stages whose effect may be repeated, because a person named them or because it was compensated.
    pub(crate) excused: BTreeSet<u32>,
    pub(crate) over: bool,
}

/// The state of a world, without its clock.
pub(crate) struct Inner {
    pub(crate) rng: Rng,
    pub(crate) runs: Vec<Run>,
    pub(crate) coordinator: CoordinatorState,
    pub(crate) targets: BTreeMap<String, Target>,
    /// Tokens under which something was started.
    pub(crate) fences: BTreeSet<(String, u64)>,
    pub(crate) faults_left: u32,
    pub(crate) wall_offset: i64,
    /// How often each case occurred.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// Kinds of events after which a process died.
    pub(crate) crashes_after: BTreeSet<String>,
    pub(crate) violation: Option<String>,
    /// The history, line by line; none unless it is to be printed.
    pub(crate) history: Option<Vec<String>>,
    pub(crate) now: Duration,
}

/// A world.
pub(crate) struct World {
    start: Instant,
    inner: Mutex<Inner>,
}

impl World {
    /// Must be called with tokio's clock paused.
    pub(crate) fn new(seed: u64, keep_history: bool) -> Arc<World> {
        let mut rng = Rng::with_seed(seed);
        let environments = plans::environments(&mut rng);
        let pipelines: Vec<Pipeline> =
            (0..rng.usize(1..=3)).map(|_| plans::pipeline(&mut rng, &environments)).collect();
        let runs = (0..rng.usize(1..=5)).map(|number| {
            let pipeline = rng.choice(&pipelines).expect("a pipeline").clone();
            Run::new(number, pipeline, rng.usize(1..=4))
        });
        let runs = runs.collect();
        let inner = Inner {
            faults_left: rng.u32(0..=6),
            rng,
            runs,
            coordinator: CoordinatorState::default(),
            targets: BTreeMap::new(),
            fences: BTreeSet::new(),
            wall_offset: 0,
            counts: BTreeMap::new(),
            crashes_after: BTreeSet::new(),
            violation: None,
            history: keep_history.then(Vec::new),
            now: Duration::ZERO,
        };
        Arc::new(World { start: Instant::now(), inner: Mutex::new(inner) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().expect("no panic while the lock was held");
        inner.now = self.start.elapsed();
        inner
    }

    pub(crate) fn wall(&self) -> Timestamp {
        self.lock().wall()
    }

    /// The runs and their plans, line by line.
    pub(crate) fn describe(&self) -> Vec<String> {
        let inner = self.lock();
        let mut lines = Vec::new();
        for run in &inner.runs {
            let plan = &run.pipeline.plan;
            lines.push(format!("{} with {} slots in {:?}", run.id, run.jobs, plan.concurrency));
            for (index, stage) in plan.indices().zip(&plan.stages) {
                lines.push(format!(
                    "  {} {:?} `{}` {:?} needs {:?} if {:?} on {:?} within {:?} retry {:?} lenient {} compensates {:?} asks {} waits {}",
                    index.0,
                    stage.kind,
                    stage.id,
                    run.pipeline.facts[index.get()].effect,
                    stage.needs.iter().map(|need| need.0).collect::<Vec<_>>(),
                    stage.condition.as_ref().map(|condition| condition.source()),
                    stage.environment.as_ref().map(|environment| &environment.name),
                    stage.timeout,
                    (stage.retry.max, &stage.retry.on),
                    stage.continue_on_error,
                    stage.compensate.iter().map(|target| target.0).collect::<Vec<_>>(),
                    run.pipeline.asks[index.get()],
                    run.pipeline.waits[index.get()],
                ));
            }
        }
        lines
    }

    pub(crate) async fn until(&self, at: Duration) {
        tokio::time::sleep_until(self.start + at).await;
    }
}

impl Run {
    fn new(number: usize, pipeline: Pipeline, jobs: usize) -> Run {
        let truth = Truth::new(pipeline.plan.stages.len());
        Run {
            id: RunId(format!("r{number}")),
            pipeline,
            jobs,
            journal: Vec::new(),
            durable: 0,
            appends: Vec::new(),
            past: vec![(0, truth.clone())],
            truth,
            facts: Facts::default(),
            left_out: None,
            named: Vec::new(),
            inbox: Vec::new(),
            signals: Vec::new(),
            cancels: BTreeSet::new(),
            binding: "one",
            process: 0,
            alive: false,
            fuse: None,
            disk_full: false,
            coordinator_fails: false,
            stalled_until: None,
            stalls: false,
            wakers: Vec::new(),
            excused: BTreeSet::new(),
            over: false,
        }
    }

    pub(crate) fn is_driven_by(&self, process: u32) -> bool {
        self.alive && self.process == process
    }

    /// Ends the current process.
    pub(crate) fn die(&mut self) {
        self.alive = false;
        self.fuse = None;
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// Cuts the power: a random part of the journal's end that wasn't durable is lost.
    fn lose_power(&mut self, rng: &mut Rng) {
        self.die();
        let kept: Vec<usize> = self.appends.iter().copied().filter(|end| *end >= self.durable).collect();
        let Some(&keep) = rng.choice(&kept) else { return };
        self.journal.truncate(keep);
        self.appends.retain(|end| *end <= keep);
        self.durable = self.durable.min(keep);
        let (_, truth) = self.past.iter().find(|(length, _)| *length == keep).expect("a length that was appended");
        self.truth = truth.clone();
        self.past.retain(|(length, _)| *length <= keep);
    }

    /// Records an append. After a durable one, a power cut can't restore an earlier length.
    pub(crate) fn appended(&mut self, durable: bool) {
        let length = self.journal.len();
        self.appends.push(length);
        if durable {
            self.durable = length;
            self.past.clear();
        }
        self.past.push((length, self.truth.clone()));
    }
}

impl Inner {
    pub(crate) fn wall(&self) -> Timestamp {
        let now = i64::try_from(self.now.as_millis()).expect("a short world");
        Timestamp(BASE.saturating_add_signed(now + self.wall_offset))
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.now >= CALM
    }

    pub(crate) fn roll(&mut self, percent: u32) -> bool {
        chance(&mut self.rng, percent)
    }

    pub(crate) fn random_duration(&mut self, millis: std::ops::Range<u64>) -> Duration {
        between(&mut self.rng, millis)
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn log(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(history) = &mut self.history
            && self.violation.is_none()
        {
            history.push(format!("{:>9.3} {}", now.as_secs_f64(), what()));
        }
    }

    /// Records a violation, if it is the first one.
    pub(crate) fn violate(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let what = what();
            self.log(|| format!("VIOLATION {what}"));
            self.violation = Some(what);
        }
    }

    /// Lets the planned fault strike at the next step.
    pub(crate) fn strike_next(&mut self, run: usize) {
        if let Some((left, _)) = &mut self.runs[run].fuse {
            *left = 0;
        }
    }

    /// A step at which the planned fault may strike. Returns whether the process still lives.
    pub(crate) fn step(&mut self, run: usize, process: u32) -> bool {
        let now = Instant::now();
        let one = &mut self.runs[run];
        if !one.is_driven_by(process) {
            return false;
        }
        let Some((left, fault)) = one.fuse else { return true };
        if left > 0 {
            one.fuse = Some((left - 1, fault));
            return true;
        }
        one.fuse = None;
        self.log(|| format!("r{run} {fault:?}"));
        match fault {
            Fault::Crash => {
                self.count("crash");
                self.count_crash(run);
                self.runs[run].die();
            }
            Fault::PowerCut => {
                self.count("power cut");
                let mut rng = self.rng.fork();
                self.runs.iter_mut().for_each(|run| run.lose_power(&mut rng));
                self.count_crash(run);
            }
            Fault::DiskFull => {
                self.count("disk full");
                self.runs[run].disk_full = true;
            }
            Fault::CoordinatorFails => {
                self.count("coordinator fails");
                self.runs[run].coordinator_fails = true;
            }
            Fault::Stall => {
                self.count("stall");
                let long = self.random_duration(1_000..200_000);
                self.runs[run].stalled_until = Some(now + long);
                self.runs[run].stalls = true;
            }
        }
        self.runs[run].is_driven_by(process)
    }

    /// Counts the kind of event that the journal ends with when the process dies.
    fn count_crash(&mut self, run: usize) {
        let last = self.runs[run].journal.last().map_or_else(|| "nothing".to_owned(), |event| name_of(&event.kind));
        self.crashes_after.insert(last);
    }

    /// Starts a new process for the run.
    pub(crate) fn boot(&mut self, run: usize) -> u32 {
        let fault = if self.faults_left > 0 && !self.is_calm() && self.roll(80) {
            self.faults_left -= 1;
            let faults =
                [Fault::Crash, Fault::Crash, Fault::PowerCut, Fault::DiskFull, Fault::CoordinatorFails, Fault::Stall];
            let fault = *self.rng.choice(&faults).expect("a fault");
            let reach = if self.rng.bool() { 40 } else { 250 };
            Some((self.rng.u32(0..reach), fault))
        } else {
            None
        };
        let one = &mut self.runs[run];
        one.process += 1;
        one.alive = true;
        one.fuse = fault;
        one.disk_full = false;
        one.coordinator_fails = false;
        one.stalled_until = None;
        one.stalls = false;
        one.facts.forget_process();
        one.process
    }
}
