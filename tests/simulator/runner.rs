//! The plugins of a simulated world: they take time, announce effects, have them, and misbehave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use stagewright_engine::{
    AttemptEnd, AttemptOutput, AttemptReport, AttemptRequest, Call, EffectRefused, Failure, FailureKind, Finding, Gate,
    Interrupt, Level, Observation, Outcome, Problem, ReleaseNote, StageRunner, Stream, Wait,
};
use stagewright_model::StageIndex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::process::ProcessFuture;
use crate::target::{Actor, EffectId};
use crate::world::World;

/// The plugins for one process.
pub(crate) struct SimRunner {
    pub(crate) world: Arc<World>,
    pub(crate) run: usize,
    pub(crate) process: u32,
}

impl StageRunner for SimRunner {
    fn run(
        &self,
        request: AttemptRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> BoxFuture<'static, AttemptReport> {
        let Some(mut guard) = self.begin(&request) else { return std::future::pending().boxed() };
        let fence = request.environment.as_ref().and_then(|view| Some((view.name.clone(), view.fence?)));
        let plugin = Plugin {
            world: Arc::clone(&self.world),
            process: self.process,
            done: EffectId { run: self.run, stage: request.stage, attempt: request.attempt },
            turn: fence,
            orphan: Arc::clone(&guard.orphan),
            request,
            output,
        };
        let living = ProcessFuture::new(&self.world, self.run, self.process, plugin.work(interrupt.clone()));
        async move {
            let guard = &mut guard;
            let worker = tokio::spawn(living);
            guard.worker = Some(worker.abort_handle());
            match worker.await {
                Ok(Some(report)) => {
                    guard.answered(&report, &interrupt);
                    report
                }
                Err(error) if error.is_panic() => {
                    guard.answered(&unsuccessful(Outcome::Errored, FailureKind::Internal), &interrupt);
                    std::panic::resume_unwind(error.into_panic())
                }
                _ => std::future::pending().await,
            }
        }
        .boxed()
    }
}

impl SimRunner {
    /// Checks the limits of concurrent attempts a moment later, when an attempt that the engine has just abandoned is gone.
    fn look_again(&self) {
        let (world, run, process) = (Arc::clone(&self.world), self.run, self.process);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut inner = world.lock();
            if inner.runs[run].is_driven_by(process) {
                inner.check_load(run, process);
            }
        });
    }

    /// Reports the call to the oracle.
    fn begin(&self, request: &AttemptRequest) -> Option<Guard> {
        let mut inner = self.world.lock();
        let run = self.run;
        if !inner.step(run, self.process) {
            return None;
        }
        inner.log(|| format!("r{run} launches {:?} of {}#{}", request.call, request.stage_id, request.attempt));
        let number = inner.on_call(run, self.process, request);
        self.look_again();
        let one = &inner.runs[run];
        if let Some(group) = &one.pipeline.group
            && one.cancels.is_empty()
            && inner.coordinator.holder(group) != Some(run)
        {
            let holder = inner.coordinator.holder(group);
            inner.violate(|| format!("r{run} runs while {holder:?} holds the group"));
        }
        let survives = inner.roll(25);
        Some(Guard {
            world: Arc::clone(&self.world),
            run,
            process: self.process,
            number,
            survives,
            orphan: Arc::new(AtomicBool::new(false)),
            worker: None,
        })
    }
}

/// Handles an attempt whose future is dropped: it ends, or continues without its process.
struct Guard {
    world: Arc<World>,
    run: usize,
    process: u32,
    /// The number of the call among those of its process.
    number: usize,
    survives: bool,
    orphan: Arc<AtomicBool>,
    worker: Option<AbortHandle>,
}

impl Guard {
    /// Records the report that is passed to the engine now.
    fn answered(&self, report: &AttemptReport, interrupt: &watch::Receiver<Option<Interrupt>>) {
        let mut inner = self.world.lock();
        if inner.runs[self.run].is_driven_by(self.process) {
            inner.on_answer(self.run, self.number, report, *interrupt.borrow());
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut inner = self.world.lock();
        if inner.runs[self.run].process == self.process {
            inner.runs[self.run].facts.calls[self.number].under_way = false;
        }
        let Some(worker) = self.worker.take().filter(|worker| !worker.is_finished()) else { return };
        self.orphan.store(true, Ordering::Relaxed);
        if self.survives {
            inner.count("orphan");
        } else {
            worker.abort();
        }
    }
}

/// One attempt.
struct Plugin {
    world: Arc<World>,
    process: u32,
    done: EffectId,
    turn: Option<(String, u64)>,
    orphan: Arc<AtomicBool>,
    request: AttemptRequest,
    output: AttemptOutput,
}

/// The token that a stage waits for, unless it shares one with others.
pub(crate) fn token_of(stage: StageIndex) -> String {
    format!("job-{}", stage.0)
}

fn report(end: AttemptEnd) -> AttemptReport {
    AttemptReport {
        end,
        outputs: BTreeMap::new(),
        artifacts: Vec::new(),
        release: None,
        made: None,
        read_history: false,
    }
}

fn unsuccessful(outcome: Outcome, kind: FailureKind) -> AttemptReport {
    let failure = Failure::new(kind, "as simulated", true);
    report(AttemptEnd::Unsuccessful(outcome, failure))
}

impl Plugin {
    fn roll(&self, percent: u32) -> bool {
        self.world.lock().roll(percent)
    }

    fn misbehaves(&self, percent: u32) -> bool {
        let mut inner = self.world.lock();
        !inner.is_calm() && inner.roll(percent)
    }

    async fn pause(&self, millis: std::ops::Range<u64>) {
        let long = self.world.lock().random_duration(millis);
        tokio::time::sleep(long).await;
    }

    async fn work(self, interrupt: watch::Receiver<Option<Interrupt>>) -> AttemptReport {
        let obeys = if self.misbehaves(3) {
            None
        } else if self.misbehaves(8) {
            Some(Interrupt::Kill)
        } else {
            Some(Interrupt::Graceful)
        };
        let limit = self.request.timeout.unwrap_or(Duration::from_secs(86_400));
        let ended = tokio::select! {
            biased;
            () = self.stop_requested(interrupt, obeys) => unsuccessful(Outcome::Cancelled, FailureKind::Cancelled),
            report = self.perform() => report,
            () = tokio::time::sleep(limit) => unsuccessful(Outcome::TimedOut, FailureKind::Timeout),
        };
        if self.misbehaves(5) {
            self.outlive_attempt();
        }
        let count = if self.roll(20) { self.world.lock().rng.u32(1..=2) } else { 0 };
        AttemptReport {
            artifacts: (0..count).map(|number| self.done.artifact(self.request.call, number)).collect(),
            ..ended
        }
    }

    async fn stop_requested(&self, mut interrupt: watch::Receiver<Option<Interrupt>>, obeys: Option<Interrupt>) {
        let Some(wanted) = obeys else { return std::future::pending().await };
        let asked = interrupt.wait_for(|how| *how >= Some(wanted)).await.ok().map(|how| *how);
        // The engine has dropped its end, so there will be no request.
        let Some(asked) = asked else { return std::future::pending().await };
        if asked == Some(Interrupt::Graceful) {
            let grace = self.pause(0..5_000);
            tokio::select! {
                biased;
                _ = interrupt.wait_for(|how| *how == Some(Interrupt::Kill)) => {}
                () = grace => {}
            }
        }
    }

    /// Continues in the background after the attempt has ended.
    fn outlive_attempt(&self) {
        let leftover = Plugin {
            world: Arc::clone(&self.world),
            process: self.process,
            done: self.done,
            turn: self.turn.clone(),
            orphan: Arc::new(AtomicBool::new(true)),
            request: self.request.clone(),
            output: self.output.clone(),
        };
        self.world.lock().count("leftover");
        tokio::spawn(async move {
            leftover.pause(0..20_000).await;
            leftover.output.lines(Stream::Plugin, "too late".into()).await;
            leftover.output.summary("too late".to_owned()).await;
            if leftover.output.effect("too late".to_owned()).await.is_ok() {
                let who = leftover.done;
                leftover
                    .world
                    .lock()
                    .violate(|| format!("an effect was allowed to an attempt that had ended: {who:?}"));
            }
        });
    }

    async fn perform(&self) -> AttemptReport {
        match self.request.call {
            Call::Run => self.run().await,
            Call::Observe => self.observe().await,
            Call::Undo => self.undo().await,
            // No run makes this call.
            Call::Compare => report(AttemptEnd::Compared(Vec::new())),
        }
    }

    async fn run(&self) -> AttemptReport {
        if self.request.resumption.is_none() && self.asks() {
            self.pause(0..2_000).await;
            return report(AttemptEnd::Suspended(self.gate()));
        }
        if self.waits() {
            return self.wait().await;
        }
        self.write_log().await;
        self.pause(0..10_000).await;
        let reaches_out = self.world.lock().reaches_out(self.done.run, self.done.stage);
        let effects = if !reaches_out || self.misbehaves(10) { 0 } else { self.world.lock().rng.u32(1..=2) };
        for _ in 0..effects {
            if let Err(refused) = self.effect().await {
                return unsuccessful(Outcome::Failed, refused);
            }
            self.pause(0..8_000).await;
        }
        self.write_log().await;
        if self.misbehaves(30) {
            return self.fail().await;
        }
        let release = (effects > 0 && self.request.environment.is_some() && self.roll(70)).then(|| self.release());
        let outputs = BTreeMap::from([("attempt".to_owned(), json!(self.done.attempt))]);
        AttemptReport { outputs, release, ..report(AttemptEnd::Succeeded) }
    }

    fn asks(&self) -> bool {
        let mut inner = self.world.lock();
        inner.runs[self.done.run].pipeline.asks[self.done.stage.get()] && inner.roll(90)
    }

    fn release(&self) -> ReleaseNote {
        let EffectId { run, stage, attempt } = self.done;
        ReleaseNote { artifact: format!("r{run}/{}@{attempt}", stage.0), ..ReleaseNote::default() }
    }

    fn waits(&self) -> bool {
        let mut inner = self.world.lock();
        let percent = if inner.is_calm() { 20 } else { 65 };
        inner.runs[self.done.run].pipeline.waits[self.done.stage.get()] && inner.roll(percent)
    }

    /// Waits, sometimes after it has begun something that goes on meanwhile.
    async fn wait(&self) -> AttemptReport {
        self.pause(0..5_000).await;
        let reaches_out = self.world.lock().reaches_out(self.done.run, self.done.stage);
        let acts = reaches_out && self.roll(50);
        if acts && let Err(refused) = self.effect().await {
            return unsuccessful(Outcome::Failed, refused);
        }
        let release = (acts && self.request.environment.is_some() && self.roll(50)).then(|| self.release());
        let is_invalid = self.misbehaves(4);
        let mut inner = self.world.lock();
        // Several stages may wait for the same token.
        let token = if inner.roll(30) { "shared".to_owned() } else { token_of(self.done.stage) };
        let poll_after = match is_invalid {
            true => Some(Duration::from_millis(inner.rng.u64(0..1_000))),
            false => inner.roll(80).then(|| Duration::from_millis(inner.rng.u64(1_000..150_000))),
        };
        let expires = inner.roll(8).then(|| Duration::from_millis(inner.rng.u64(1_000..200_000)));
        let wait = Wait { token, reason: "it isn't ready".to_owned(), poll_after, expires };
        AttemptReport { release, ..report(AttemptEnd::Waiting(wait)) }
    }

    fn gate(&self) -> Gate {
        let mut inner = self.world.lock();
        let expires = inner.roll(40).then(|| inner.wall().0 + inner.rng.u64(10_000..300_000));
        let approvers = match inner.rng.u32(0..3) {
            0 => vec!["team:ops".to_owned()],
            1 => vec!["ada".to_owned(), "grace".to_owned()],
            _ => Vec::new(),
        };
        Gate {
            token: format!("own-{}", inner.rng.u64(..)),
            message: "Go on?".to_owned(),
            approvals: if inner.roll(40) { 2 } else { 1 },
            approvers,
            expires: expires.map(stagewright_engine::Timestamp),
            ..Gate::default()
        }
    }

    async fn write_log(&self) {
        if self.roll(30) {
            self.output.lines(Stream::Stdout, "a line\nanother".into()).await;
        }
        if self.roll(20) {
            self.output.progress("working".to_owned(), 1, Some(2));
        }
        if self.roll(10) {
            self.output.summary("# Done".to_owned()).await;
        }
        if self.roll(10) {
            let (level, code, message) = (Level::Warning, "W1".to_owned(), "odd".to_owned());
            self.output.problem(Problem::new(level, code, message)).await;
        }
    }

    async fn fail(&self) -> AttemptReport {
        let way = self.world.lock().rng.u32(0..14);
        match way {
            0..=3 => unsuccessful(Outcome::Failed, FailureKind::Reported),
            4 => unsuccessful(Outcome::Errored, FailureKind::Trapped),
            5 => unsuccessful(Outcome::Errored, FailureKind::OutOfMemory),
            6 => unsuccessful(Outcome::Lost, FailureKind::Killed),
            7 => unsuccessful(Outcome::Inconclusive, FailureKind::Internal),
            8 => report(AttemptEnd::Skipped("nothing to do".to_owned())),
            9 => std::panic::resume_unwind(Box::new("as simulated")),
            10 => report(AttemptEnd::Observed(Observation::InProgress)),
            11 => unsuccessful(Outcome::Failed, FailureKind::Denied),
            12 => unsuccessful(Outcome::Errored, FailureKind::Limit),
            _ => std::future::pending().await,
        }
    }

    /// Announces an effect, and has it if the engine allows it.
    async fn effect(&self) -> Result<(), FailureKind> {
        let before = {
            let mut inner = self.world.lock();
            inner.step(self.done.run, self.process);
            inner.coordinator.newest_fence(&self.actor().place())
        };
        let orphan = self.orphan.load(Ordering::Relaxed);
        let allowed = self.output.effect(format!("deploy in attempt {}", self.done.attempt)).await;
        self.check_permission(&allowed, before, orphan)?;
        if self.roll(50) {
            self.pause(0..3_000).await;
        }
        let taken = {
            let mut inner = self.world.lock();
            let taken = inner.act(&self.actor());
            inner.step(self.done.run, self.process);
            taken
        };
        if taken { Ok(()) } else { Err(FailureKind::Superseded) }
    }

    fn check_permission(
        &self,
        allowed: &Result<(), EffectRefused>,
        newest_before: u64,
        orphan: bool,
    ) -> Result<(), FailureKind> {
        let mut inner = self.world.lock();
        let who = self.done;
        match allowed {
            Err(EffectRefused::Superseded(_)) => {
                inner.count("effect refused: superseded");
                if self.turn.as_ref().is_some_and(|(name, fence)| inner.coordinator.newest_fence(name) == *fence) {
                    inner.violate(|| format!("an effect was refused under the newest token: {who:?}"));
                }
                return Err(FailureKind::Superseded);
            }
            Err(EffectRefused::Unrecorded) => {
                inner.count("effect refused: unrecorded");
                return Err(FailureKind::Internal);
            }
            Ok(()) if orphan => inner.violate(|| format!("an effect was allowed to a late worker: {who:?}")),
            Ok(()) => {}
        }
        if let Some((_, fence)) = self.turn
            && fence != newest_before
        {
            inner.violate(|| format!("an effect was allowed under token {fence} after {newest_before}: {who:?}"));
        }
        Ok(())
    }

    fn actor(&self) -> Actor {
        Actor {
            done: self.done,
            call: self.request.call,
            turn: self.turn.clone(),
            orphan: self.orphan.load(Ordering::Relaxed),
        }
    }

    async fn observe(&self) -> AttemptReport {
        self.pause(0..3_000).await;
        if self.misbehaves(10) {
            return self.fail().await;
        }
        let observation = if self.misbehaves(20) {
            Observation::InProgress
        } else if self.misbehaves(25) {
            Observation::Unknown("the target doesn't respond".to_owned())
        } else {
            let EffectId { run, stage, attempt } = self.done;
            let truth = self.world.lock().truth(run, stage, attempt);
            let broken = matches!(truth, Finding::Applied(_)) && self.misbehaves(10);
            Observation::Found(if broken { Finding::Failed("it doesn't respond".to_owned()) } else { truth })
        };
        report(AttemptEnd::Observed(observation))
    }

    async fn undo(&self) -> AttemptReport {
        self.pause(0..3_000).await;
        if self.misbehaves(10) {
            return self.fail().await;
        }
        if let Err(refused) = self.effect().await {
            return unsuccessful(Outcome::Failed, refused);
        }
        self.pause(0..3_000).await;
        if self.misbehaves(10) { self.fail().await } else { report(AttemptEnd::Succeeded) }
    }
}
