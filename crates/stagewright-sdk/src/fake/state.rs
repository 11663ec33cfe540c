//! The state of the fake host, which the imports read and change.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::report::{LogLine, OpenedGate, Published, Release, Report, Sent, Spawned};
use super::script::{HttpScript, ProcessScript, Scripts, ServiceScript};
use crate::bindings::stage::stagewright::stage::types as wire;
use crate::registry::Descriptor;
use crate::workspace::Node;
use crate::{Diagnostic, Error};

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) config: Json,
    pub(super) inputs: BTreeMap<String, Json>,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) environment: Option<String>,
    pub(super) fence: Option<u64>,
    /// The current release, and the last known-good one.
    pub(super) ledger: (Option<Json>, Option<Json>),
    pub(super) attempt: u32,
    pub(super) rehearsal: bool,
    pub(super) cancelled: bool,
    pub(super) remaining: Option<Duration>,
    pub(super) resumption: Option<Json>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) executables: BTreeSet<String>,
    /// Links, empty folders and special files.
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) artifacts: BTreeMap<String, Vec<u8>>,
    /// The value, and whether `reveal` is granted.
    pub(super) secrets: BTreeMap<String, (String, bool)>,
    pub(super) processes: Scripts<ProcessScript>,
    pub(super) requests: Scripts<HttpScript>,
    pub(super) services: Scripts<ServiceScript>,
    pub(super) current: BTreeMap<String, Json>,
    pub(super) images: BTreeMap<String, Descriptor>,
    pub(super) now: Duration,
    pub(super) elapsed: Duration,
    /// Interface, subject, error.
    pub(super) faults: Vec<(String, String, Error)>,

    pub(super) outputs: BTreeMap<String, Json>,
    pub(super) logs: Vec<LogLine>,
    pub(super) problems: Vec<Diagnostic>,
    pub(super) summaries: Vec<String>,
    pub(super) spawned: Vec<Spawned>,
    pub(super) sent: Vec<Sent>,
    pub(super) published: Vec<Published>,
    pub(super) gates: Vec<OpenedGate>,
    pub(super) releases: Vec<Release>,
    pub(super) recorded: Option<(String, Option<String>)>,
}

impl State {
    pub(super) fn new() -> State {
        State {
            config: json!({}),
            inputs: BTreeMap::new(),
            variables: BTreeMap::new(),
            environment: None,
            fence: None,
            ledger: (None, None),
            attempt: 1,
            rehearsal: false,
            cancelled: false,
            remaining: None,
            resumption: None,
            files: BTreeMap::new(),
            nodes: BTreeMap::new(),
            executables: BTreeSet::new(),
            artifacts: BTreeMap::new(),
            secrets: BTreeMap::new(),
            processes: Scripts::new(),
            requests: Scripts::new(),
            services: Scripts::new(),
            current: BTreeMap::new(),
            images: BTreeMap::new(),
            now: Duration::from_secs(1_700_000_000),
            elapsed: Duration::ZERO,
            faults: Vec::new(),
            outputs: BTreeMap::new(),
            logs: Vec::new(),
            problems: Vec::new(),
            summaries: Vec::new(),
            spawned: Vec::new(),
            sent: Vec::new(),
            published: Vec::new(),
            gates: Vec::new(),
            releases: Vec::new(),
            recorded: None,
        }
    }

    /// The error that the test set for a call, if any.
    pub(super) fn check(&self, interface: &str, subject: &str) -> Result<(), wire::Error> {
        let fault = self.faults.iter().find(|(of, about, _)| of == interface && (about == "*" || about == subject));
        fault.map_or(Ok(()), |(_, _, error)| Err(error.clone().into()))
    }

    /// Advances the clock, and reduces the time until the stage's timeout.
    pub(super) fn pass(&mut self, duration: Duration) {
        self.elapsed += duration;
        self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(duration));
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
        *host = Some(state);
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
            problems: state.problems,
            summaries: state.summaries,
            spawned: state.spawned,
            sent: state.sent,
            files: state.files,
            published: state.published,
            gates: state.gates,
            releases: state.releases,
            recorded: state.recorded,
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
/// When no host is installed.
pub(super) fn on<T>(call: impl FnOnce(&mut State) -> T) -> T {
    HOST.with_borrow_mut(|host| call(host.as_mut().expect("call the host inside `FakeHost::run` or `FakeHost::with`")))
}
