//! One deploy from the new version's start to its end, across waits and interruptions.
//!
//! ```text
//! applied ─> ready ─> step ─> step ─┬─> finished
//!     └────────┴───────┴───────┴────┴─> undone: it failed, or was aborted
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use stagewright_sdk::environment::{self, RolloutPhase};
use stagewright_sdk::gate::{self, Resumption};
use stagewright_sdk::{Error, Outcome, Result, Suspension, clock, context, log};

use crate::analysis::{Analysis, Phase, Subject};
use crate::digest_of;
use crate::header_route::{self, HeaderMatch};
use crate::readiness;
use crate::strategy::{Step, Strategy, is_gradual};
use crate::target::{Described, Progress, ReleaseConfig, Serving, Target};

/// The shortest wait that the host takes.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// A rollout of one version.
pub(crate) struct Rollout<'a, T: Target> {
    target: &'a T,
    config: &'a T::Config,
    previous: Option<&'a Serving>,
    version: T::Version,
    /// Whether this call applied the version.
    is_new: bool,
    described: Described,
    strategy: Strategy,
    steps: Vec<Step>,
    /// How many steps are done.
    done: usize,
    /// Whether the version has passed its probes.
    is_ready: bool,
    /// How many percent of the requests the version gets.
    weight: u32,
    /// The pause at which the last call stopped.
    pause: Option<PauseState>,
    /// The payload of the signal that ended this pause.
    signal: Option<Json>,
    /// Whether the rest goes without pauses, shares and analyses.
    is_promoted: bool,
    /// Whether a person has aborted it.
    is_aborted: bool,
}

/// What the host keeps for the next call.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct PauseState {
    /// Milliseconds since the Unix epoch; none to wait for a person.
    until: Option<u64>,
    /// What is waited for. A signal for an earlier pause must not end this one.
    token: String,
}

/// What a person decided about a paused rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Command {
    Promote,
    PromoteFull,
    Abort,
}

/// The payload of the signal that ends a pause.
#[derive(Debug, Deserialize)]
struct Decision {
    rollout: Command,
    #[serde(default)]
    by: Option<String>,
}

impl<'a, T: Target> Rollout<'a, T> {
    /// Begins the deploy of the release of `config`, or continues the one that this run has begun.
    pub(crate) fn begin(target: &'a T, config: &'a T::Config, previous: Option<&'a Serving>) -> Result<Rollout<'a, T>> {
        let known = begun()?.filter(|known| digest_of(&known.artifact) == digest_of(target.artifact()));
        let mut rollout = Rollout::of(target, config, previous)?;
        if let (Some(known), false) = (known, rollout.is_new) {
            rollout.done = usize::try_from(known.step).unwrap_or(usize::MAX).min(rollout.steps.len() - 1);
            rollout.weight = known.weight;
            rollout.is_ready = known.weight > 0 || known.step > 0 || known.phase == RolloutPhase::Paused;
            if known.phase == RolloutPhase::Paused {
                let pause: PauseState = serde_json::from_value(known.state).unwrap_or_default();
                rollout.signal = signal_for(&pause.token)?;
                rollout.pause = Some(pause);
            }
        }
        rollout.is_promoted = was_released()?;
        Ok(rollout)
    }

    /// Begins to deploy an earlier release again, without pauses and shares.
    pub(crate) fn back(target: &'a T, config: &'a T::Config, previous: Option<&'a Serving>) -> Result<Rollout<'a, T>> {
        let mut rollout = Rollout::of(target, config, previous)?;
        rollout.is_promoted = true;
        Ok(rollout)
    }

    fn of(target: &'a T, config: &'a T::Config, previous: Option<&'a Serving>) -> Result<Rollout<'a, T>> {
        let strategy = config.strategy();
        let steps = strategy.steps();
        if is_gradual(&steps) && environment::fence().is_none() {
            let message = format!("the strategy `{}` needs an environment, which keeps how far it is", strategy.name());
            return Err(Error::invalid(message).help("add to the stage: environment = \"staging\""));
        }
        let (version, is_new) = match target.unfinished()? {
            Some(version) => (version, false),
            None => (target.apply()?, true),
        };
        let described = target.describe(&version);
        let place = described.address.as_deref().map(|address| format!(" at {address}")).unwrap_or_default();
        let name = &described.name;
        log::info(match is_new {
            true => format!("release {name} started{place}"),
            false => format!("continuing with release {name}{place}"),
        });
        Ok(Rollout {
            target,
            config,
            previous,
            version,
            is_new,
            described,
            strategy,
            steps,
            done: 0,
            is_ready: false,
            weight: 0,
            pause: None,
            signal: None,
            is_promoted: false,
            is_aborted: false,
        })
    }

    /// Carries out the rest of the steps, up to the next wait. Undoes the version if one of them fails.
    pub(crate) fn drive(mut self) -> Result<Outcome> {
        match self.advance() {
            Ok(outcome) => Ok(outcome),
            Err(error) => Err(self.abort(error)),
        }
    }

    fn advance(&mut self) -> Result<Outcome> {
        if !self.is_ready {
            self.record(RolloutPhase::Progressing, "waiting until the version is ready")?;
            readiness::wait_until_ready(self.target, &self.config.probes(), &self.version)?;
        }
        while let Some(step) = self.steps.get(self.done).cloned() {
            if context::cancelled() {
                return Err(Error::cancelled("cancelled during the rollout"));
            }
            match step {
                Step::SetWeight(weight) if weight < 100 && self.is_promoted => {}
                Step::SetWeight(weight) => self.set_weight(weight)?,
                Step::SetHeaderRoute(_) if self.is_promoted => {}
                Step::SetHeaderRoute(_) => self.set_header_routes()?,
                Step::Pause(_) if self.is_promoted => {}
                Step::Pause(duration) => {
                    if let Some(wait) = self.wait(duration)? {
                        return Ok(Outcome::Suspended(wait));
                    }
                    self.check_alive()?;
                }
                Step::Analysis(_) if self.is_promoted => {}
                // An analysis that was inconclusive isn't repeated: a person decides.
                Step::Analysis(_) if self.pause.is_some() => {
                    if let Some(wait) = self.wait(None)? {
                        return Ok(Outcome::Suspended(wait));
                    }
                    self.check_alive()?;
                }
                Step::Analysis(analysis) => {
                    if let Some(wait) = self.analyse(&analysis)? {
                        return Ok(Outcome::Suspended(wait));
                    }
                }
                Step::Finish => self.finish()?,
            }
            self.done += 1;
            let phase = if self.done == self.steps.len() { RolloutPhase::Completed } else { RolloutPhase::Progressing };
            self.record(phase, "")?;
        }
        Ok(Outcome::Succeeded)
    }

    fn set_weight(&mut self, weight: u32) -> Result<()> {
        let name = &self.described.name;
        // All requests are for the version then, whatever their headers are.
        let conditions = if weight == 100 { Vec::new() } else { self.conditions() };
        self.target.shift_matching(&self.version, weight, &conditions).map_err(|error| {
            error.context(match weight {
                100 => format!("release {name} is healthy, but can't be made current"),
                _ => format!("release {name} is healthy, but can't be given {weight}% of the requests"),
            })
        })?;
        self.weight = weight;
        Ok(())
    }

    fn set_header_routes(&self) -> Result<()> {
        let name = &self.described.name;
        self.target.shift_matching(&self.version, self.weight, &self.conditions()).map_err(|error| {
            error.context(format!("release {name} is healthy, but can't be given requests by their headers"))
        })
    }

    /// The conditions of the routes up to the present step. They follow from the steps, so that nothing else is recorded.
    fn conditions(&self) -> Vec<HeaderMatch> {
        header_route::in_effect(self.steps[..=self.done].iter().filter_map(|step| match step {
            Step::SetHeaderRoute(route) => Some(route),
            _ => None,
        }))
    }

    fn finish(&self) -> Result<()> {
        let name = &self.described.name;
        let failed =
            |error: Error| error.context(format!("release {name} gets all requests, but can't be made current"));
        self.target.finish(&self.version).map_err(failed)
    }

    /// Carries out an analysis. If it is inconclusive, a person has to decide.
    fn analyse(&mut self, analysis: &Analysis) -> Result<Option<Suspension>> {
        let log = |lines: u32| self.target.log_tail(&self.version, lines);
        let subject = Subject {
            version: self.described.name.clone(),
            serving: self.previous.map(|previous| previous.version.clone()).unwrap_or_default(),
            address: self.described.address.clone().unwrap_or_default(),
            log: Some(&log),
        };
        self.record(RolloutPhase::Progressing, "measuring the version")?;
        let verdict = analysis.run(&subject)?;
        match verdict.error() {
            None => {
                if verdict.is_dry_run && !verdict.reasons().is_empty() {
                    log::warn(format!("the analysis is a dry run: {}", verdict.reasons().join("; ")));
                }
                self.check_alive().map(|()| None)
            }
            Some(_) if verdict.phase() == Phase::Inconclusive => {
                let reasons = verdict.reasons().join("; ");
                log::warn(format!("the analysis is inconclusive: {reasons}"));
                self.wait(None)
            }
            Some(error) => Err(error),
        }
    }

    /// A version that failed while it had few requests must not get more.
    fn check_alive(&self) -> Result<()> {
        let Progress::Failed(reason) = self.target.observe(&self.version)? else { return Ok(()) };
        let message = format!("the release {reason} while it had {}% of the {}", self.weight, self.strategy.share());
        Err(Error::failed(message).help(format!("find out why the program exits; {}", self.described.advice)))
    }

    /// Whether a pause is still to be waited for, and how.
    fn wait(&mut self, duration: Option<Duration>) -> Result<Option<Suspension>> {
        let now = u64::try_from(clock::now().as_millis()).unwrap_or(u64::MAX);
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let until = match self.pause.take() {
            Some(PauseState { until, .. }) => until,
            None => duration.map(|duration| now.saturating_add(millis(duration))),
        };
        if let Some(payload) = self.signal.take() {
            return self.obey(payload).map(|()| None);
        }
        if until.is_some_and(|until| until <= now) {
            return Ok(None);
        }
        let (share, name) = (self.weight, &self.described.name);
        // Each pause has a token of its own, so that a person who promotes twice doesn't skip the next one.
        let environment = context::environment().unwrap_or_default();
        let token = format!("rollout:{environment}/{}.{}", context::attempt(), self.done);
        self.record_with(RolloutPhase::Paused, "", PauseState { until, token: token.clone() })?;
        let reason = format!(
            "{} of {} is paused at step {} of {}: {name} gets {share}% of the {}",
            self.strategy.name(),
            self.config.service(),
            self.done,
            self.steps.len(),
            self.strategy.share()
        );
        let wait = Suspension::new(&token, &reason);
        Ok(Some(match until {
            Some(until) => wait.poll_after(Duration::from_millis(until - now).max(SHORTEST_WAIT)),
            None => wait,
        }))
    }

    /// Carries out a person's decision. A signal without one continues the rollout.
    fn obey(&mut self, payload: Json) -> Result<()> {
        let decision: Option<Decision> = serde_json::from_value(payload).unwrap_or(None);
        let by = decision.as_ref().and_then(|decision| decision.by.as_deref()).unwrap_or("a signal");
        match decision.as_ref().map_or(Command::Promote, |decision| decision.rollout) {
            Command::Promote => log::info(format!("continued by {by}")),
            Command::PromoteFull => {
                log::info(format!("promoted to all requests by {by}"));
                self.is_promoted = true;
            }
            Command::Abort => {
                self.is_aborted = true;
                return Err(Error::failed(format!("the rollout was aborted by {by}")));
            }
        }
        Ok(())
    }

    /// Undoes the version, and adds to the error what serves now.
    fn abort(mut self, error: Error) -> Error {
        let is_cancelled = error.is_cancelled() || context::cancelled();
        if self.strategy.stops_on_failure() && self.weight > 0 && !self.is_aborted && !is_cancelled {
            return self.stop(error);
        }
        let serves = match self.previous {
            Some(Serving { version, artifact, .. }) => format!("release {version} ({artifact}) still serves"),
            None => "no release serves, because none did before".to_owned(),
        };
        let outcome = if is_cancelled { "was cancelled" } else { "failed" };
        let (service, name) = (self.config.service().to_owned(), self.described.name.clone());
        let undone = self.target.undo(&self.version);
        let (phase, reason) = match &undone {
            Ok(()) => (RolloutPhase::Aborted, error.message.clone()),
            Err(failure) => (RolloutPhase::Degraded, format!("{}; {failure}", error.message)),
        };
        self.weight = if undone.is_ok() { 0 } else { self.weight };
        // The deploy has failed either way, and that is the error to report.
        if let Err(unrecorded) = self.record(phase, &reason) {
            log::warn(format!("could not record the end of the rollout: {unrecorded}"));
        }
        match undone {
            Ok(()) => {
                error.context(format!("the deploy of `{service}` {outcome}: release {name} was removed, and {serves}"))
            }
            Err(failure) => {
                let help = degraded_advice(failure.help.as_deref().or(error.help.as_deref()));
                error
                    .context(format!("the deploy of `{service}` {outcome}, and release {name} could not be removed"))
                    .cause(format!("removing it failed: {failure}"))
                    .help(help)
            }
        }
    }

    /// Leaves the version where it has arrived.
    fn stop(self, error: Error) -> Error {
        if let Err(unrecorded) = self.record(RolloutPhase::Degraded, &error.message) {
            log::warn(format!("could not record the end of the rollout: {unrecorded}"));
        }
        let (service, name, weight) = (self.config.service(), &self.described.name, self.weight);
        let environment = context::environment().unwrap_or_default();
        error
            .context(format!("the deploy of `{service}` stopped: {weight}% of the hosts have release {name}, the others don't"))
            .help(format!(
                "continue it when the cause is fixed: stagewright rollout retry {environment}; or go back on all hosts: \
                 stagewright rollout abort {environment}"
            ))
    }

    fn record(&self, phase: RolloutPhase, message: &str) -> Result<()> {
        self.record_with(phase, message, PauseState::default())
    }

    fn record_with(&self, phase: RolloutPhase, message: &str, pause: PauseState) -> Result<()> {
        if !is_gradual(&self.steps) {
            return Ok(());
        }
        let count = |steps: usize| u32::try_from(steps).unwrap_or(u32::MAX);
        environment::record_rollout(&environment::Rollout {
            service: self.config.service().to_owned(),
            version: self.described.name.clone(),
            artifact: self.target.artifact().to_owned(),
            strategy: self.strategy.name().to_owned(),
            phase,
            step: count(self.done),
            steps: count(self.steps.len()),
            weight: self.weight,
            message: message.to_owned(),
            state: serde_json::to_value(pause)?,
        })
    }
}

/// The payload of the signal that ended the wait for this token. The host goes on to report a signal when the call after it
/// was interrupted, and the rollout may have got further since.
fn signal_for(own: &str) -> Result<Option<Json>> {
    Ok(match gate::resumption()? {
        Some(Resumption::Signalled { token, payload }) if token == own => Some(payload),
        _ => None,
    })
}

/// Whether the ledger has a release with the same configuration as current or known good. It has been rolled out before, and
/// is restored now: by a rollback, or by an abort. That must not take as long again.
fn was_released() -> Result<bool> {
    let own: Json = context::config()?;
    let known = [environment::current()?, environment::last_known_good()?];
    Ok(known.into_iter().flatten().any(|release| release.config == own))
}

/// The rollout that this run has begun and not finished.
pub(crate) fn begun() -> Result<Option<environment::Rollout>> {
    Ok(environment::rollout()?.filter(|known| !is_finished(known.phase)))
}

/// Records that a rollout has completed whose end was interrupted.
pub(crate) fn complete(artifact: &str) -> Result<()> {
    let Some(known) = begun()?.filter(|known| digest_of(&known.artifact) == digest_of(artifact)) else {
        return Ok(());
    };
    let (step, weight, message) = (known.steps, 100, String::new());
    environment::record_rollout(&environment::Rollout {
        phase: RolloutPhase::Completed,
        step,
        weight,
        message,
        ..known
    })
}

fn is_finished(phase: RolloutPhase) -> bool {
    matches!(phase, RolloutPhase::Completed | RolloutPhase::Aborted)
}

/// What to do about a deploy that could not be undone. `cause`: what to do about the reason, such as a credential that has
/// expired.
fn degraded_advice(cause: Option<&str>) -> String {
    let next = match context::environment() {
        Some(environment) => format!(
            "continue with `stagewright rollout retry {environment}`, or go back with `stagewright rollout abort {environment}`"
        ),
        None => "stop the release manually before the next deploy".to_owned(),
    };
    cause.map_or_else(|| next.clone(), |cause| format!("{cause}; then {next}"))
}
