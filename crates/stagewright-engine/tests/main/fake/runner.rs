//! A fake runner whose attempts follow a script.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value as Json;
use stagewright_engine::{
    Artifact, AttemptEnd, AttemptOutput, AttemptReport, AttemptRequest, Call, Capture, CaptureRequest, Failure,
    FailureKind, Finding, Gate, Interrupt, Made, Observation, Outcome, ReleaseNote, StageRunner, Stream, Wait,
};
use tokio::sync::watch;

use super::ports::FakeStore;

/// What an attempt does after [`WORK`].
#[derive(Clone)]
pub(crate) enum Act {
    Succeed,
    Output(&'static str, Json),
    Fail,
    /// Fails, and asks for a delay before the next try.
    FailAndDelay(Duration),
    Deny,
    Skip(&'static str),
    Rehearse(&'static str),
    Ask(Gate),
    Wait(Wait),
    Panic,
    /// Runs until it is interrupted gracefully.
    Hang,
    /// Runs until it is killed.
    IgnoreGraceful,
    /// Never stops.
    IgnoreEverything,
    Say(&'static [&'static str]),
    /// Deploys the artifact with this digest, and waits.
    DeployAndWait(&'static str, Wait),
    /// Requests an effect, has it if allowed, and continues with the inner act.
    Reach(Box<Act>),
    /// Deploys the artifact with this digest.
    Deploy(&'static str),
    TimeOut,
    ExceedLimit,
    /// Leaves a task behind that requests an effect after the duration, and continues with the inner act.
    Linger(Duration, Box<Act>),
    Observe(Observation),
    /// Publishes files with these names, and continues with the inner act.
    Publish(&'static [&'static str], Box<Act>),
}

pub(crate) fn reach(then: Act) -> Act {
    Act::Reach(Box::new(then))
}

pub(crate) fn found(finding: Finding) -> Act {
    Act::Observe(Observation::Found(finding))
}

/// A script per stage with an act per attempt. The last act repeats, and a stage without a script succeeds. The other
/// calls of a stage's plugin have separate scripts, `observe STAGE` and `undo STAGE`.
#[derive(Clone, Default)]
pub(crate) struct Script {
    acts: HashMap<String, VecDeque<Act>>,
}

impl Script {
    pub(crate) fn of(acts: impl IntoIterator<Item = (&'static str, Vec<Act>)>) -> Script {
        Script { acts: acts.into_iter().map(|(stage, acts)| (stage.to_owned(), acts.into())).collect() }
    }

    pub(crate) fn add(&mut self, stage: &str, acts: Vec<Act>) {
        self.acts.insert(stage.to_owned(), acts.into());
    }

    fn waits_next(&self, stage: &str) -> bool {
        self.acts.get(stage).is_some_and(|acts| matches!(acts.front(), Some(Act::Wait(_))))
    }

    fn next(&mut self, stage: &str) -> Act {
        match self.acts.get_mut(stage) {
            None if stage.starts_with("observe ") => found(Finding::NotStarted),
            None => Act::Succeed,
            Some(acts) if acts.len() > 1 => acts.pop_front().expect("more than one"),
            Some(acts) => acts.front().cloned().unwrap_or(Act::Succeed),
        }
    }
}

/// What the runner recorded.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: Vec<AttemptRequest>,
    pub(crate) running: usize,
    pub(crate) most_running: usize,
    /// The [`label`] of each effect that was allowed.
    pub(crate) effects: Vec<String>,
    /// The labels of the effects that were refused.
    pub(crate) refused: Vec<String>,
}

/// `STAGE#ATTEMPT`, with the call as a prefix unless it is `run`.
pub(crate) fn label(request: &AttemptRequest) -> String {
    let call = match request.call {
        Call::Run => "",
        Call::Observe => "observe ",
        Call::Undo => "undo ",
        Call::Compare => "compare ",
    };
    format!("{call}{}#{}", request.stage_id, request.attempt)
}

/// Performs the acts of a script.
pub(super) struct FakeRunner {
    pub(super) store: FakeStore,
    pub(super) script: Mutex<Script>,
    pub(super) seen: Arc<Mutex<Seen>>,
}

/// The duration of every attempt.
pub(crate) const WORK: Duration = Duration::from_secs(1);

impl StageRunner for FakeRunner {
    fn run(
        &self,
        request: AttemptRequest,
        output: AttemptOutput,
        mut interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> BoxFuture<'static, AttemptReport> {
        let label = label(&request);
        let key = label.rsplit_once('#').expect("a label").0;
        let mut script = self.script.lock().expect("a script");
        let act = match &request.resumption {
            // After its own gate, a stage ends unless it waits for something else.
            Some(answer) if answer.get("cause").is_none() && !script.waits_next(key) => {
                Act::Output("decision", answer.clone())
            }
            _ => script.next(key),
        };
        drop(script);
        let seen = Arc::clone(&self.seen);
        let store = self.store.clone();
        async move {
            let here = Here { request: request.clone(), seen: Arc::clone(&seen), store };
            {
                let mut seen = seen.lock().expect("what was seen");
                seen.requests.push(request);
                seen.running += 1;
                seen.most_running = seen.most_running.max(seen.running);
            }
            let is_read = !here.request.basis.readers.is_empty();
            let (names, act) = match act {
                Act::Publish(names, then) => (names, *then),
                act => (&[][..], act),
            };
            let mut report = perform(act, &here, &output, &mut interrupt).await;
            report.artifacts = names.iter().map(|name| artifact(name)).collect();
            if is_read && report.end == AttemptEnd::Succeeded {
                report.made = Some(Made { digest: format!("sha256:of {}", here.request.stage_id), opening: None });
            }
            seen.lock().expect("what was seen").running -= 1;
            report
        }
        .boxed()
    }

    /// Takes as long as an attempt, and uses the paths as the digest.
    fn capture(&self, request: CaptureRequest) -> BoxFuture<'static, Result<Option<Capture>, Failure>> {
        let act = self.script.lock().expect("a script").next(&format!("capture {}", request.stage_id));
        let mut paths = request.paths;
        paths.sort();
        let digest = format!("sha256:{}", paths.iter().map(AsRef::<str>::as_ref).collect::<Vec<_>>().join(" "));
        async move {
            tokio::time::sleep(WORK).await;
            match act {
                Act::Fail => match unsuccessful(Outcome::Errored, FailureKind::FilesChanged, "the disk is full") {
                    AttemptEnd::Unsuccessful(_, failure) => Err(failure),
                    _ => unreachable!("it is unsuccessful"),
                },
                _ => Ok(Some(Capture { digest, files: 1, bytes: 1, opening: request.opening })),
            }
        }
        .boxed()
    }
}

/// The context in which an act is performed.
struct Here {
    request: AttemptRequest,
    seen: Arc<Mutex<Seen>>,
    store: FakeStore,
}

impl Here {
    /// Requests an effect; returns whether it was allowed.
    async fn reach(&self, output: &AttemptOutput) -> bool {
        let label = label(&self.request);
        let allowed = output.effect(format!("reach out for {label}")).await.is_ok();
        let mut seen = self.seen.lock().expect("what was seen");
        if allowed {
            assert!(self.store.has_intent(&self.request), "{label} was allowed without a durable intent");
            seen.effects.push(label);
        } else {
            seen.refused.push(label);
        }
        allowed
    }
}

async fn perform(
    act: Act,
    here: &Here,
    output: &AttemptOutput,
    interrupt: &mut watch::Receiver<Option<Interrupt>>,
) -> AttemptReport {
    let mut outputs = BTreeMap::new();
    let mut act = act;
    if let Act::Linger(after, then) = act {
        let (label, seen, output) = (label(&here.request), Arc::clone(&here.seen), output.clone());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let allowed = output.effect("linger".to_owned()).await.is_ok();
            let mut seen = seen.lock().expect("what was seen");
            if allowed { seen.effects.push(label) } else { seen.refused.push(label) }
        });
        act = *then;
    }
    while let Act::Reach(then) = act {
        if !here.reach(output).await {
            return report(unsuccessful(Outcome::Failed, FailureKind::Superseded, "refused"), outputs);
        }
        act = *then;
    }
    if let Act::Deploy(artifact) = act {
        if !here.reach(output).await {
            return report(unsuccessful(Outcome::Failed, FailureKind::Superseded, "refused"), outputs);
        }
        tokio::time::sleep(WORK).await;
        let release = ReleaseNote { artifact: artifact.to_owned(), ..ReleaseNote::default() };
        return AttemptReport { release: Some(release), ..report(AttemptEnd::Succeeded, outputs) };
    }
    if let Act::DeployAndWait(artifact, wait) = act {
        let release = ReleaseNote { artifact: artifact.to_owned(), ..ReleaseNote::default() };
        return AttemptReport { release: Some(release), ..report(AttemptEnd::Waiting(wait), outputs) };
    }
    let wanted = match act {
        Act::Hang => Some(Interrupt::Graceful),
        Act::IgnoreGraceful => Some(Interrupt::Kill),
        Act::IgnoreEverything => std::future::pending().await,
        _ => {
            tokio::time::sleep(WORK).await;
            None
        }
    };
    if let Some(wanted) = wanted {
        let _ = interrupt.wait_for(|how| *how >= Some(wanted)).await;
        return report(unsuccessful(Outcome::Cancelled, FailureKind::Cancelled, "stopped"), outputs);
    }
    let end = match act {
        Act::Succeed => AttemptEnd::Succeeded,
        Act::Output(name, value) => {
            outputs.insert(name.to_owned(), value);
            AttemptEnd::Succeeded
        }
        Act::Fail => unsuccessful(Outcome::Failed, FailureKind::Reported, "it failed"),
        Act::FailAndDelay(delay) => {
            let retry_after = u64::try_from(delay.as_millis()).ok();
            let failure = Failure::new(FailureKind::Reported, "it is busy", true);
            AttemptEnd::Unsuccessful(Outcome::Failed, Failure { retry_after, ..failure })
        }
        Act::Deny => unsuccessful(Outcome::Failed, FailureKind::Denied, "not granted"),
        Act::Skip(reason) => AttemptEnd::Skipped(reason.to_owned()),
        Act::Rehearse(what) => AttemptEnd::Rehearsed(what.to_owned()),
        Act::Ask(gate) => AttemptEnd::Suspended(gate),
        Act::Wait(wait) => AttemptEnd::Waiting(wait),
        Act::Panic => panic!("as the script says"),
        Act::Say(lines) => {
            for line in lines {
                output.lines(Stream::Stdout, (*line).into()).await;
            }
            AttemptEnd::Succeeded
        }
        Act::TimeOut => unsuccessful(Outcome::TimedOut, FailureKind::Timeout, "it took too long"),
        Act::ExceedLimit => unsuccessful(Outcome::Errored, FailureKind::Limit, "it ran too many processes"),
        Act::Observe(observation) => AttemptEnd::Observed(observation),
        Act::Hang
        | Act::IgnoreGraceful
        | Act::IgnoreEverything
        | Act::Reach(_)
        | Act::Deploy(_)
        | Act::DeployAndWait(..)
        | Act::Linger(..)
        | Act::Publish(..) => {
            unreachable!("handled above")
        }
    };
    report(end, outputs)
}

pub(crate) fn artifact(name: &str) -> Artifact {
    let (digest, media_type) = (format!("sha256:of {name}"), "text/plain".to_owned());
    Artifact { name: name.to_owned(), digest, media_type, size: 5 }
}

pub(crate) fn report(end: AttemptEnd, outputs: BTreeMap<String, Json>) -> AttemptReport {
    AttemptReport { end, outputs, artifacts: Vec::new(), release: None, made: None, read_history: false }
}

pub(crate) fn unsuccessful(outcome: Outcome, kind: FailureKind, message: &str) -> AttemptEnd {
    let failure = Failure::new(kind, message, true);
    AttemptEnd::Unsuccessful(outcome, failure)
}
