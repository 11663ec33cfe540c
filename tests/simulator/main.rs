//! Simulates random worlds from a seed: the real engine drives several runs of random pipelines, while there are crashes,
//! power cuts, stalls, full disks, clock jumps, misbehaving plugins and people who make mistakes. Every decision of the
//! engine is compared with the world's own knowledge; see `oracle`.
//!
//! `STAGEWRIGHT_SIM_SEED=n` repeats one world and prints its whole history. `STAGEWRIGHT_SIM_RUNS=n` sets how many worlds
//! are simulated, starting with the seed `STAGEWRIGHT_SIM_FIRST`.

mod coordinator;
mod drive;
mod oracle;
mod people;
mod plans;
mod process;
mod runner;
mod store;
mod target;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::world::{END, World};

/// The default number of simulated worlds.
const RUNS: u64 = 1_500;

/// Cases that must have occurred in at least one of the worlds: a check of the oracle can only fail in a world in which its
/// case occurs.
const MUST_HAPPEN: [&str; 72] = [
    "answer after expiry refused",
    "answer of another person refused",
    "answer to an earlier gate refused",
    "answer to another question refused",
    "answer to no open gate refused",
    "approval lapsed",
    "as many cells as max-parallel allows",
    "observed",
    "begun before a freeze",
    "cancel",
    "environment frozen",
    "environment held",
    "environment superseded",
    "clock set",
    "crash",
    "disk full",
    "effect refused: superseded",
    "effect refused: unrecorded",
    "effect undone",
    "environment awaited",
    "fail-fast",
    "failure ignored by continue-on-error",
    "finally stage",
    "found applied",
    "found failed",
    "found not started",
    "freeze overridden",
    "gate approval",
    "gate doubt",
    "gate elapsed",
    "gate environment",
    "gate expired",
    "gate freeze",
    "gate passed by several",
    "group awaited",
    "group held at a gate",
    "group left at a gate",
    "leftover",
    "lost with its process",
    "orphan",
    "power cut",
    "release confirmed",
    "replaced",
    "resumed",
    "retries used up",
    "retry",
    "run again without a known outcome",
    "second answer of a person refused",
    "settled",
    "several compensated",
    "skipped",
    "stall",
    "stopped by a sibling",
    "suspended",
    "coordinator fails",
    "undo",
    "compensation failed",
    "continued after a gate",
    "continued after a wait",
    "timed wait",
    "wait for a signal alone",
    "wait expired",
    "wait polled",
    "wait polled by another process",
    "wait signalled",
    "signal kept",
    "kept signal used",
    "signal refused",
    "answer to a wait refused",
    "environment kept during a wait",
    "approval asked again after a wait",
    "wait superseded",
];

/// Events after which a process must have died in at least one of the worlds.
const MUST_CRASH_AFTER: [&str; 14] = [
    "AttemptStarted",
    "CancelRequested",
    "EffectIntended",
    "GateDecided",
    "GateElapsed",
    "GateOpened",
    "GateSignalled",
    "GroupAwaited",
    "RecoveryStarted",
    "RetryScheduled",
    "RunResumed",
    "RunStarted",
    "StageEnded",
    "UndoStarted",
];

/// The result of a simulated world.
struct Outcome {
    violation: Option<String>,
    /// Its runs and their plans.
    description: Vec<String>,
    history: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
    crashes_after: BTreeSet<String>,
}

fn simulate(seed: u64, keep_history: bool) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let world = runtime.block_on(async {
        let world = World::new(seed, keep_history);
        run_world(&world).await;
        world
    });
    // End the attempts that outlived their process.
    drop(runtime);
    let description = if keep_history { world.describe() } else { Vec::new() };
    let mut inner = world.lock();
    Outcome {
        description,
        violation: inner.violation.take(),
        history: inner.history.take().unwrap_or_default(),
        counts: std::mem::take(&mut inner.counts),
        crashes_after: std::mem::take(&mut inner.crashes_after),
    }
}

async fn run_world(world: &Arc<World>) {
    let runs = world.lock().runs.len();
    let drivers = (0..runs).map(|run| tokio::spawn(drive::drive_run(Arc::clone(world), run))).collect::<Vec<_>>();
    tokio::spawn(people::act_until_over(Arc::clone(world)));
    let all = futures_util::future::join_all(drivers);
    tokio::select! {
        biased;
        ended = all => for one in ended {
            if let Err(error) = one {
                world.lock().violate(|| format!("the simulator itself: {error}"));
            }
        },
        () = world.until(END) => {}
    }
    let mut inner = world.lock();
    if let Some(run) = (0..runs).find(|run| !inner.runs[*run].over) {
        let stages: Vec<_> = inner.runs[run].truth.stages.iter().map(|stage| stage.phase).collect();
        inner.violate(|| format!("r{run} doesn't end: {stages:?}"));
    }
}

#[expect(clippy::disallowed_methods, reason = "the worlds to simulate are set by the environment")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[expect(clippy::print_stderr, reason = "the history is printed to debug a world")]
fn print(history: &[String]) {
    for line in history {
        eprintln!("{line}");
    }
}

#[test]
fn no_world_violates_the_oracle() {
    if let Some(seed) = number("STAGEWRIGHT_SIM_SEED") {
        let outcome = simulate(seed, true);
        print(&outcome.description);
        print(&outcome.history);
        assert_eq!(outcome.violation, None, "in the world of seed {seed}");
        return;
    }
    let (first, runs) = (number("STAGEWRIGHT_SIM_FIRST").unwrap_or(0), number("STAGEWRIGHT_SIM_RUNS").unwrap_or(RUNS));
    let next = AtomicU64::new(first);
    let (stop, bad) = (AtomicBool::new(false), Mutex::new(None::<u64>));
    let counts = Mutex::new(BTreeMap::<&str, u64>::new());
    let crashes_after = Mutex::new(BTreeSet::<String>::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs {
                        break;
                    }
                    let outcome = simulate(seed, false);
                    if outcome.violation.is_some() {
                        stop.store(true, Ordering::Relaxed);
                        let mut bad = bad.lock().expect("a seed");
                        *bad = Some(bad.map_or(seed, |other| other.min(seed)));
                    }
                    crashes_after.lock().expect("events").extend(outcome.crashes_after);
                    let mut counts = counts.lock().expect("counts");
                    for (what, count) in outcome.counts {
                        *counts.entry(what).or_default() += count;
                    }
                }
            });
        }
    });
    if let Some(seed) = *bad.lock().expect("a seed") {
        let outcome = simulate(seed, true);
        let last = outcome.history.len().saturating_sub(120);
        print(&outcome.description);
        print(&outcome.history[last..]);
        let what = outcome.violation.unwrap_or_else(|| "the violation isn't reproduced".to_owned());
        panic!("seed {seed}: {what}\nrepeat with STAGEWRIGHT_SIM_SEED={seed}");
    }
    let counts = counts.into_inner().expect("counts");
    if runs >= RUNS {
        let missing: Vec<&&str> = MUST_HAPPEN.iter().filter(|what| !counts.contains_key(**what)).collect();
        assert!(missing.is_empty(), "these cases never occurred: {missing:?}");
        let crashes_after = crashes_after.into_inner().expect("events");
        let missing: Vec<&&str> = MUST_CRASH_AFTER.iter().filter(|what| !crashes_after.contains(**what)).collect();
        assert!(missing.is_empty(), "no process died after one of these: {missing:?}");
    }
    print(&counts.iter().map(|(what, count)| format!("{count:>9} {what}")).collect::<Vec<_>>());
}

#[test]
fn a_seed_reproduces_its_world() {
    for seed in 0..20 {
        assert_eq!(simulate(seed, true).history, simulate(seed, true).history, "seed {seed}");
    }
}
