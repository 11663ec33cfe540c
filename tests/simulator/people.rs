//! The people of a simulated world: they answer gates, send signals, settle unknown outcomes, cancel runs, freeze environments and set
//! the clock.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use stagewright_engine::{Decision, Finding, Gate, GateKind, Interrupt, RunCommand, Signal};
use stagewright_model::StageIndex;

use crate::oracle::Phase;
use crate::runner::token_of;
use crate::world::{CALM, END, Inner, Run, World};

/// After this time, people cancel what still runs.
const PATIENCE: Duration = Duration::from_secs(600);

/// Acts until every run is over.
pub(crate) async fn act_until_over(world: Arc<World>) {
    loop {
        let pause = {
            let mut inner = world.lock();
            if inner.runs.iter().all(|run| run.over) || inner.now >= END {
                return;
            }
            inner.act_once();
            inner.random_duration(1_000..40_000)
        };
        tokio::time::sleep(pause).await;
    }
}

impl Inner {
    /// Puts a command into the run's inbox, for its current process or the next one.
    pub(crate) fn send_command(&mut self, run: usize, command: RunCommand) {
        self.log(|| format!("a person sends r{run}: {command:?}"));
        let one = &mut self.runs[run];
        match &command {
            RunCommand::Cancel { reason, .. } => {
                one.cancels.insert(reason.clone());
            }
            RunCommand::Decide { stage, decision } => one.record_finding(*stage, decision),
            RunCommand::Signal(signal) => one.signals.push(signal.clone()),
            RunCommand::Suspend => {}
        }
        one.inbox.push(command);
    }

    fn act_once(&mut self) {
        if !self.is_calm() {
            self.disturb();
        }
        for run in 0..self.runs.len() {
            if self.runs[run].over {
                continue;
            }
            self.inspect(run);
            for stage in self.runs[run].pipeline.plan.indices() {
                match self.runs[run].truth.stage(stage) {
                    state if state.is_open_wait() => self.end_wait(run, stage),
                    state if matches!(state.phase, Phase::Waiting(_)) => self.answer(run, stage),
                    _ => {}
                }
            }
            self.signal_early(run);
            let impatient = self.now >= CALM + PATIENCE;
            if impatient || (!self.is_calm() && self.roll(1)) {
                let how = if impatient || self.roll(30) { Interrupt::Kill } else { Interrupt::Graceful };
                let reason = format!("cancellation {}", self.rng.u64(..));
                self.send_command(run, RunCommand::Cancel { how, reason });
            }
        }
    }

    /// Sets the wall clock, or freezes an environment.
    fn disturb(&mut self) {
        if self.roll(2) {
            let jump = self.rng.i64(-600_000..600_000);
            self.wall_offset += jump;
            self.count("clock set");
            self.log(|| format!("the clock is set by {jump} ms"));
        }
        if self.roll(2) {
            let until = stagewright_engine::Timestamp(self.wall().0 + self.rng.u64(1_000..600_000));
            let environment = if self.rng.bool() { "production" } else { "staging" };
            self.coordinator.environments.entry(environment.to_owned()).or_default().frozen = Some(until);
            self.log(|| format!("a person freezes {environment}"));
        }
    }

    /// Sends a signal to a stage that waits, or by mistake an answer.
    fn end_wait(&mut self, run: usize, stage: StageIndex) {
        let Some(wait) = self.runs[run].truth.stage(stage).wait.clone() else { return };
        let percent = match wait.until {
            Some(_) => 10,
            None if self.is_calm() => 100,
            None => 50,
        };
        if self.roll(percent) {
            self.send_signal(run, stage, wait.token.clone());
        }
        if self.roll(3) {
            let decision = Decision { token: wait.token, approved: true, by: "ada".to_owned(), ..Decision::default() };
            self.send_command(run, RunCommand::Decide { stage, decision });
        }
    }

    /// Sends a signal to any stage that may wait, now or later.
    fn signal_early(&mut self, run: usize) {
        let pipeline = &self.runs[run].pipeline;
        let may_wait = pipeline.plan.indices().filter(|stage| pipeline.waits[stage.get()]).collect::<Vec<_>>();
        if !self.is_calm()
            && self.roll(5)
            && let Some(stage) = self.rng.choice(may_wait)
        {
            self.send_signal(run, stage, token_of(stage));
        }
    }

    fn send_signal(&mut self, run: usize, stage: StageIndex, token: String) {
        let number = self.runs[run].signals.len() as u64 + 1;
        let stage = self.roll(40).then_some(stage);
        let (payload, by) = (json!({ "number": number }), "ada".to_owned());
        let signal = Signal { number, token, stage, payload, by, at: self.wall() };
        self.send_command(run, RunCommand::Signal(signal));
    }

    fn answer(&mut self, run: usize, stage: StageIndex) {
        let state = self.runs[run].truth.stage(stage);
        let (Some(gate), Phase::Waiting(attempt)) = (state.gate.clone(), state.phase) else { return };
        // At a gate that expires, some people answer too late.
        let dawdle = if gate.expires.is_some_and(|expires| expires > self.wall()) { 85 } else { 60 };
        if !self.is_calm() && self.roll(dawdle) {
            return;
        }
        let mut decision = Decision {
            token: gate.token.clone(),
            by: self.choose_approver(&gate),
            approved: self.is_calm() || !self.roll(15),
            // An answer from another terminal has the time at which it was given.
            at: self.roll(50).then(|| self.wall()),
            ..Decision::default()
        };
        if gate.kind == GateKind::Unresolved {
            decision.finding = Some(self.truth(run, stage, attempt));
        }
        if !self.is_calm() && self.roll(10) {
            // A mistake of some kind.
            match self.rng.u32(0..3) {
                0 => decision.token.push('x'),
                1 => decision.finding = decision.finding.is_none().then_some(Finding::NotStarted),
                _ => decision.by = "eve".to_owned(),
            }
            // A person may settle wrongly twice, but neither answer may be accepted.
            if gate.kind == GateKind::Unresolved && decision.token == gate.token && decision.finding.is_some() {
                return;
            }
        }
        if self.roll(10) {
            let by = if self.rng.bool() { decision.by.to_uppercase() } else { decision.by.clone() };
            self.send_command(run, RunCommand::Decide { stage, decision: Decision { by, ..decision.clone() } });
        }
        self.send_command(run, RunCommand::Decide { stage, decision });
    }

    fn choose_approver(&mut self, gate: &Gate) -> String {
        let everyone = ["ada".to_owned(), "grace".to_owned()];
        let may = if gate.members.is_empty() { &everyone } else { gate.members.as_slice() };
        self.rng.choice(may).expect("at least one person").clone()
    }
}

impl Run {
    /// Records a finding, whether or not the engine accepts the answer.
    fn record_finding(&mut self, stage: StageIndex, decision: &Decision) {
        let state = self.truth.stage(stage);
        let asked = state.gate.as_ref().filter(|gate| gate.token == decision.token);
        if let (Some(_), Phase::Waiting(attempt), Some(finding)) = (asked, state.phase, &decision.finding) {
            self.facts.record_finding(stage, attempt, finding);
        }
    }
}
