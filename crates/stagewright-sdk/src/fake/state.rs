//! The state of the fake host, which the imports read and change.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::report::{
    LogLine, Metric, OpenedGate, Published, Release, RemoteCommand, Report, Sent, Source, Spawned, Wait,
};
use super::script::{HttpScript, ProcessScript, Scripts, ServiceScript, SshScript};
use crate::descriptor::Descriptor;
use crate::history::Commit;
use crate::need::Need;
use crate::rollout::Rollout;
use crate::test_case::{FailedTest, TestCase};
use crate::workspace::Node;
use crate::{Error, ErrorCode, Finding, Permission, Result};

/// An interface of the host whose calls can fail for reasons of its own; see [`super::FakeHost::fail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the interfaces of the WIT")]
pub enum Interface {
    Artifacts,
    Clock,
    Environment,
    Gate,
    Http,
    Metrics,
    Outputs,
    Process,
    Registry,
    Secrets,
    Service,
    Ssh,
    Workspace,
}

/// Which function of the plugin runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Call {
    /// `validate` and `requirements`, which may only call `context`.
    Inspect,
    #[default]
    Run,
    Observe,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) call: Call,
    pub(super) config: Json,
    pub(super) needs: Vec<Need>,
    pub(super) failed_before: Option<Vec<FailedTest>>,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) source: Source,
    /// The changed files, by the commit that they differ from.
    pub(super) changes: BTreeMap<String, BTreeSet<String>>,
    /// The commits that lead to the run's, newest first.
    pub(super) history: Vec<Commit>,
    /// Commits by tag.
    pub(super) history_tags: BTreeMap<String, String>,
    /// Commits that don't lead to the run's.
    pub(super) diverged: BTreeSet<String>,
    pub(super) shallow: bool,
    pub(super) repository: Option<String>,
    /// By environment.
    pub(super) good_releases: BTreeMap<String, Option<Json>>,
    pub(super) environment: Option<String>,
    pub(super) settings: Option<Json>,
    pub(super) fence: Option<u64>,
    /// The current release, and the last known-good one.
    pub(super) ledger: (Option<Json>, Option<Json>),
    /// In a rehearsal, the current release of the real environment.
    pub(super) standing: Option<Json>,
    pub(super) restored: Option<Json>,
    pub(super) attempt: u32,
    pub(super) rehearsal: bool,
    pub(super) cancelled: bool,
    pub(super) remaining: Option<Duration>,
    pub(super) resumption: Option<Json>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) executables: BTreeSet<String>,
    /// Links, empty folders and special files.
    pub(super) nodes: BTreeMap<String, Node>,
    /// Those of earlier stages, by name.
    pub(super) artifacts: BTreeMap<String, Published>,
    /// The value, and whether `reveal` is granted.
    pub(super) secrets: BTreeMap<String, (String, bool)>,
    /// The URLs of their servers.
    pub(super) credentials: BTreeMap<String, String>,
    pub(super) processes: Scripts<ProcessScript>,
    pub(super) requests: Scripts<HttpScript>,
    pub(super) services: Scripts<ServiceScript>,
    pub(super) remote_scripts: Scripts<SshScript>,
    pub(super) current: BTreeMap<String, Json>,
    pub(super) images: BTreeMap<String, Descriptor>,
    pub(super) now: Duration,
    pub(super) elapsed: Duration,
    pub(super) seed: u64,
    /// What isn't granted, by the subject of the call.
    pub(super) denied: Vec<(Permission, String)>,
    pub(super) faults: Vec<(Interface, String, Error)>,

    pub(super) outputs: BTreeMap<String, Json>,
    /// Bytes of each output, including its name.
    pub(super) output_sizes: BTreeMap<String, usize>,
    pub(super) logs: Vec<LogLine>,
    pub(super) findings: Vec<Finding>,
    pub(super) test_cases: Vec<TestCase>,
    pub(super) metrics: BTreeMap<String, Metric>,
    pub(super) summaries: Vec<String>,
    pub(super) summary_size: usize,
    pub(super) spawned: Vec<Spawned>,
    /// When each of the spawned programs ends.
    pub(super) children: Vec<Duration>,
    pub(super) sent: Vec<Sent>,
    pub(super) remote_commands: Vec<RemoteCommand>,
    /// Counts the open responses, each of which has a clone.
    pub(super) responses: Rc<()>,
    pub(super) published: Vec<Published>,
    pub(super) gates: Vec<OpenedGate>,
    pub(super) suspended: Option<Wait>,
    pub(super) releases: Vec<Release>,
    pub(super) recorded: Option<(String, Option<String>)>,
    pub(super) recorded_parts: BTreeMap<String, String>,
    pub(super) would: Option<String>,
    /// The stage's rollout as an earlier call recorded it.
    pub(super) rollout: Option<Rollout>,
    pub(super) rollouts: Vec<Rollout>,
}

impl State {
    pub(super) fn new() -> State {
        State { config: json!({}), attempt: 1, now: Duration::from_secs(1_700_000_000), ..State::default() }
    }

    /// Checks that the test didn't deny a call. `subjects`: what it can be denied by; the first one is the entry that
    /// would grant it. `doing`: completes the sentence "the stage may not …".
    pub(super) fn grant(&self, permission: Permission, subjects: &[&str], doing: &str) -> Result<()> {
        self.grant_as(permission, subjects, subjects[0], doing)
    }

    /// As [`State::grant`], with another entry that would grant the call.
    pub(super) fn grant_as(&self, permission: Permission, subjects: &[&str], entry: &str, doing: &str) -> Result<()> {
        let mut denied = self.denied.iter().filter(|(of, _)| *of == permission).map(|(_, subject)| subject.as_str());
        match denied.any(|subject| subject == "*" || subjects.contains(&subject)) {
            true => Err(self.denial(permission, entry, doing)),
            false => Ok(()),
        }
    }

    /// The host's error about a call that isn't granted.
    pub(super) fn denial(&self, permission: Permission, entry: &str, doing: &str) -> Error {
        let key = permission.key();
        Error::new(ErrorCode::PermissionDenied, format!("the stage may not {doing}"))
            .help(format!("add to [stages.stage.permissions]: {key} = [{}]", Json::from(entry)))
    }

    /// The error that the test set for a call, if any.
    pub(super) fn fault(&self, interface: Interface, subject: &str) -> Result<()> {
        let fault = self.faults.iter().find(|(of, about, _)| *of == interface && (about == "*" || about == subject));
        fault.map_or(Ok(()), |(_, _, error)| Err(error.clone()))
    }

    /// Refuses an effect in `observe`.
    pub(super) fn announce(&self, what: &str) -> Result<()> {
        match self.call {
            Call::Observe => Err(Error::failed(format!("`observe` may not have effects: {what}"))),
            Call::Inspect | Call::Run => Ok(()),
        }
    }

    /// Advances the clock, and reduces the time until the stage's timeout.
    pub(super) fn pass(&mut self, duration: Duration) {
        self.elapsed = self.elapsed.saturating_add(duration);
        self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(duration));
    }

    /// Advances the clock to a time since the start of the stage, unless that has passed.
    pub(super) fn pass_until(&mut self, elapsed: Duration) {
        self.pass(elapsed.saturating_sub(self.elapsed));
    }
}

pub(super) fn image_descriptor(digest: &str, size: u64) -> Descriptor {
    Descriptor { media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(), digest: digest.to_owned(), size }
}

thread_local! {
    static HOST: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// A guard: while it exists, the calls of this thread use the installed state.
pub(super) struct Installed(());

pub(super) fn install(state: State) -> Installed {
    HOST.with_borrow_mut(|host| {
        assert!(host.is_none(), "a fake host can't run a stage while it runs another");
        // A cloned host would count the other's responses.
        *host = Some(State { responses: Rc::default(), ..state });
    });
    Installed(())
}

impl Installed {
    pub(super) fn into_report<T>(self, result: T) -> Report<T> {
        let state = HOST.with_borrow_mut(Option::take).expect("the guard exists, so a state is installed");
        Report {
            result,
            outputs: state.outputs,
            logs: state.logs,
            findings: state.findings,
            test_cases: state.test_cases,
            metrics: state.metrics,
            summaries: state.summaries,
            spawned: state.spawned,
            sent: state.sent,
            remote_commands: state.remote_commands,
            files: state.files,
            published: state.published,
            gates: state.gates,
            suspended: state.suspended,
            releases: state.releases,
            recorded: state.recorded,
            recorded_parts: state.recorded_parts,
            would: state.would,
            rollouts: state.rollouts,
        }
    }
}

impl Drop for Installed {
    /// Removes the state also when a stage panics, so that the next test of this thread can install another.
    fn drop(&mut self) {
        HOST.with_borrow_mut(Option::take);
    }
}

/// Calls a function with the state of this thread's host.
///
/// # Panics
/// When no host is installed, and in `validate` and `requirements`, where the call would trap on a real host.
pub(super) fn on<T>(call: impl FnOnce(&mut State) -> T) -> T {
    on_context(|host| {
        assert!(host.call != Call::Inspect, "`validate` and `requirements` may only call `context`");
        call(host)
    })
}

/// As [`on`], for the calls that are always allowed.
pub(super) fn on_context<T>(call: impl FnOnce(&mut State) -> T) -> T {
    HOST.with_borrow_mut(|host| call(host.as_mut().expect("call the host inside `FakeHost::run` or `FakeHost::with`")))
}
