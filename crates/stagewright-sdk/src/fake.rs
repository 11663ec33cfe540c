//! A scripted host for unit tests of stages, without WebAssembly and effects.
//!
//! A test sets up configuration, files in memory, the output of programs, the responses of servers, and denials. It gets a
//! [`Report`] of everything that the stage did. The fake host doesn't touch the disk, the network or a real clock: time
//! passes only when the stage sleeps, or when a script sets how long something takes.
//!
//! ```
//! use stagewright_sdk::fake::{FakeHost, ProcessScript};
//! use stagewright_sdk::process::Command;
//!
//! let host = FakeHost::new().process(ProcessScript::new("git", ["rev-parse"]).stdout("4b825dc\n"));
//! let (output, report) = host.with(|| Command::new("git").args(["rev-parse", "HEAD"]).output());
//! assert_eq!(output.expect("scripted").stdout, b"4b825dc\n");
//! assert_eq!(report.spawned[0].args, ["rev-parse", "HEAD"]);
//! ```

mod glob;
pub(crate) mod imports;
mod report;
mod repository;
mod rules;
mod script;
mod state;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value as Json, json};

pub use report::{
    GateField, LogLine, Metric, OpenedGate, Published, Release, RemoteCommand, Report, Sent, Source, Spawned, Wait,
};
pub use script::{HttpScript, ProcessScript, ServiceScript, SshScript};
pub use state::Interface;

use crate::need::{Need, NeedOutcome};
use crate::rollout::Rollout;
use crate::test_case::FailedTest;
use crate::workspace::Node;
use crate::{
    Error, LiveDifference, Observation, Outcome, Permission, Problem, Reconcile, Requirement, Result, Stage, export,
};
use state::{Call, State};

/// Sets up a fake host. It grants everything that it has a script for, except what [`FakeHost::deny`] denies. Calls that
/// the real host refuses are refused with the same error, as far as that doesn't depend on the machine.
#[derive(Clone, Debug)]
pub struct FakeHost {
    state: State,
}

impl Default for FakeHost {
    fn default() -> FakeHost {
        FakeHost::new()
    }
}

impl FakeHost {
    /// A host with the pipeline `pipeline`, the stage `stage`, the run `run-1`, attempt 1 and an empty `with` table.
    pub fn new() -> FakeHost {
        FakeHost { state: State::new() }
    }

    /// Sets the `with` table.
    #[must_use]
    pub fn config(mut self, with: Json) -> FakeHost {
        self.state.config = with;
        self
    }

    /// Adds a stage that this one needs and that has succeeded, with its outputs.
    #[must_use]
    pub fn input(self, stage: &str, outputs: Json) -> FakeHost {
        let (outcome, conclusion) = (NeedOutcome::Succeeded, NeedOutcome::Succeeded);
        self.need(Need { stage: stage.to_owned(), stage_id: stage.to_owned(), outcome, conclusion, outputs })
    }

    /// Adds a stage that this one needs.
    #[must_use]
    pub fn need(mut self, need: Need) -> FakeHost {
        self.state.needs.push(need);
        self
    }

    /// Makes this a run that repeats only these tests.
    #[must_use]
    pub fn failed_before(mut self, tests: impl IntoIterator<Item = FailedTest>) -> FakeHost {
        self.state.failed_before = Some(tests.into_iter().collect());
        self
    }

    /// Sets what the run is for, and what started it.
    #[must_use]
    pub fn source(mut self, source: Source) -> FakeHost {
        self.state.source = source;
        self
    }

    /// Sets the files that differ from the commit with this full id.
    #[must_use]
    pub fn changed_files<'a>(mut self, commit: &str, paths: impl IntoIterator<Item = &'a str>) -> FakeHost {
        let paths = paths.into_iter().map(rules::inside).collect();
        self.state.changes.insert(commit.to_owned(), paths);
        self
    }

    /// Sets a variable of the stage's `env` table.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> FakeHost {
        self.state.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets the stage's environment. Its fencing token is 1 unless [`FakeHost::fence`] sets another.
    #[must_use]
    pub fn environment(mut self, name: &str) -> FakeHost {
        self.state.environment = Some(name.to_owned());
        self.state.fence.get_or_insert(1);
        self.state.settings.get_or_insert_with(|| json!({ "name": name, "target": "process", "config": [] }));
        self
    }

    /// Sets the environment's settings, as [`crate::environment::Settings`].
    #[must_use]
    pub fn settings(mut self, settings: Json) -> FakeHost {
        self.state.settings = Some(settings);
        self
    }

    /// Sets the fencing token that the attempt holds.
    #[must_use]
    pub fn fence(mut self, fence: u64) -> FakeHost {
        self.state.fence = Some(fence);
        self
    }

    /// Sets the environment's ledger: the current release, and the last known-good one, each as
    /// [`crate::environment::Release`].
    #[must_use]
    pub fn ledger(mut self, current: Option<Json>, last_known_good: Option<Json>) -> FakeHost {
        self.state.ledger = (current, last_known_good);
        self
    }

    /// Sets the release that serves in the real environment, for a rehearsal, as [`crate::environment::Release`].
    #[must_use]
    pub fn standing(mut self, release: Json) -> FakeHost {
        self.state.standing = Some(release);
        self
    }

    /// Lets the run restore a release, given as [`crate::environment::Release`].
    #[must_use]
    pub fn restored(mut self, release: Json) -> FakeHost {
        self.state.restored = Some(release);
        self
    }

    /// Sets how far the stage's rollout was when an earlier call recorded it.
    #[must_use]
    pub fn rollout(mut self, rollout: Rollout) -> FakeHost {
        self.state.rollout = Some(rollout);
        self
    }

    /// Sets the number of the attempt. Default: 1.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> FakeHost {
        self.state.attempt = attempt;
        self
    }

    /// Makes it a rehearsal: [`crate::context::rehearsal`] is true.
    #[must_use]
    pub fn rehearsal(mut self) -> FakeHost {
        self.state.rehearsal = true;
        self
    }

    /// Asks the stage to stop: [`crate::context::cancelled`] is true, and sleeping fails.
    #[must_use]
    pub fn cancelled(mut self) -> FakeHost {
        self.state.cancelled = true;
        self
    }

    /// Sets the time until the stage's timeout.
    #[must_use]
    pub fn remaining(mut self, remaining: Duration) -> FakeHost {
        self.state.remaining = Some(remaining);
        self
    }

    /// Runs the stage after its gate was approved by `by`, with values for the form's fields.
    #[must_use]
    pub fn approved(self, by: &str, reason: Option<&str>, fields: Json) -> FakeHost {
        let mut decision = json!({ "token": "gate-1", "approved": true, "by": by, "reason": reason });
        decision["fields"] = fields;
        self.resumption(decision)
    }

    /// Runs the stage after the time of its wait has passed.
    #[must_use]
    pub fn polled(self, token: &str) -> FakeHost {
        self.resumption(json!({ "token": token, "cause": "poll" }))
    }

    /// Runs the stage after a signal has ended its wait.
    #[must_use]
    pub fn signalled(self, token: &str, payload: Json) -> FakeHost {
        let mut record = json!({ "token": token, "cause": "signal" });
        record["payload"] = payload;
        self.resumption(record)
    }

    /// Runs the stage after a wait, with the host's record of how it ended; see [`crate::gate::resumption`].
    #[must_use]
    pub fn resumption(mut self, record: Json) -> FakeHost {
        self.state.resumption = Some(record);
        self
    }

    /// Adds a file to the workspace.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> FakeHost {
        self.state.files.insert(rules::inside(path), content.into());
        self
    }

    /// Adds an executable file to the workspace.
    #[must_use]
    pub fn executable(mut self, path: &str, content: impl Into<Vec<u8>>) -> FakeHost {
        self.state.executables.insert(rules::inside(path));
        self.file(path, content)
    }

    /// Adds a link, an empty folder, or a special file to the workspace.
    #[must_use]
    pub fn node(mut self, path: &str, node: Node) -> FakeHost {
        self.state.nodes.insert(rules::inside(path), node);
        self
    }

    /// Adds an artifact that the stage `earlier` has published.
    #[must_use]
    pub fn artifact(self, name: &str, content: impl Into<Vec<u8>>) -> FakeHost {
        self.published(name, "application/octet-stream", false, [(String::new(), content.into())].into())
    }

    /// Adds a folder that the stage `earlier` has published, with its files.
    #[must_use]
    pub fn artifact_folder<C: Into<Vec<u8>>>(
        self,
        name: &str,
        files: impl IntoIterator<Item = (&'static str, C)>,
    ) -> FakeHost {
        let files = files.into_iter().map(|(path, content)| (rules::inside(path), content.into()));
        self.published(name, "application/vnd.stagewright.folder.v1.tar", true, files.collect())
    }

    fn published(mut self, name: &str, media_type: &str, folder: bool, files: BTreeMap<String, Vec<u8>>) -> FakeHost {
        let (name, path, media_type) = (name.to_owned(), String::new(), media_type.to_owned());
        self.state.artifacts.insert(name.clone(), Published { name, path, media_type, folder, files });
        self
    }

    /// Grants a secret, without `reveal`.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &str) -> FakeHost {
        self.state.secrets.insert(name.to_owned(), (value.to_owned(), false));
        self
    }

    /// Grants a secret, with `reveal`.
    #[must_use]
    pub fn revealed_secret(mut self, name: &str, value: &str) -> FakeHost {
        self.state.secrets.insert(name.to_owned(), (value.to_owned(), true));
        self
    }

    /// Grants a credential that signs requests to the origin of `endpoint`, which is the URL of its server.
    #[must_use]
    pub fn credential(mut self, name: &str, endpoint: &str) -> FakeHost {
        self.state.credentials.insert(name.to_owned(), endpoint.trim_end_matches('/').to_owned());
        self
    }

    /// Adds a script for a program. Of the scripts that match, each is used once in the order of their addition, and the
    /// last one repeatedly. A program without a script can't be started.
    #[must_use]
    pub fn process(mut self, script: ProcessScript) -> FakeHost {
        self.state.processes.add(script);
        self
    }

    /// Adds a script for a request; scripts are picked as in [`FakeHost::process`]. A request without a script fails to
    /// connect.
    #[must_use]
    pub fn http(mut self, script: HttpScript) -> FakeHost {
        self.state.requests.add(script);
        self
    }

    /// Adds a script for a release of a service; scripts are picked as in [`FakeHost::process`].
    #[must_use]
    pub fn service(mut self, script: ServiceScript) -> FakeHost {
        self.state.services.add(script);
        self
    }

    /// Adds a script for a command on a host; scripts are picked as in [`FakeHost::process`]. A host without a script can't
    /// be reached.
    #[must_use]
    pub fn ssh(mut self, script: SshScript) -> FakeHost {
        self.state.remote_scripts.add(script);
        self
    }

    /// Sets the current release of a service, as [`crate::service::Current`].
    #[must_use]
    pub fn current_release(mut self, service: &str, current: Json) -> FakeHost {
        self.state.current.insert(service.to_owned(), current);
        self
    }

    /// Adds an image to the registry.
    #[must_use]
    pub fn image(mut self, reference: &str, digest: &str) -> FakeHost {
        self.state.images.insert(reference.to_owned(), state::image_descriptor(digest, 2));
        self
    }

    /// Sets the time at which the stage starts, since the Unix epoch.
    #[must_use]
    pub fn now(mut self, now: Duration) -> FakeHost {
        self.state.now = now;
        self
    }

    /// Denies calls, like a pipeline that doesn't grant them. `subject` is the entry that would grant the call, its URL or
    /// its image reference, or `*` for all calls. A denied folder includes its content.
    ///
    /// # Panics
    /// For `exec`, `socket` and `env`, which only concern what a program does: programs are scripted here.
    #[must_use]
    pub fn deny(mut self, permission: Permission, subject: &str) -> FakeHost {
        let is_scripted = matches!(permission, Permission::Exec | Permission::Socket | Permission::Env);
        assert!(!is_scripted, "`{}` has no effect on the scripted programs of the fake host", permission.key());
        let subject = match permission {
            Permission::Read | Permission::Write if subject != "*" => rules::shown(&rules::inside(subject)).to_owned(),
            _ => subject.to_owned(),
        };
        self.state.denied.push((permission, subject));
        self
    }

    /// Makes calls of an interface fail with `error`. `subject` is the program, URL, path, name or reference of the call,
    /// or `*` for all calls.
    #[must_use]
    pub fn fail(mut self, interface: Interface, subject: &str, error: Error) -> FakeHost {
        self.state.faults.push((interface, subject.to_owned(), error));
        self
    }

    /// Calls [`Stage::run`]. A suspension with an invalid token becomes an error, as on the real host.
    pub fn run<S: Stage>(self) -> Report<Result<Outcome>> {
        self.report(Call::Run, || {
            let result = export::run::<S>();
            let Ok(Outcome::Suspended(suspension)) = &result else { return result };
            let wait = suspension.0.wait();
            rules::wait_token(&wait.token)?;
            state::on(|host| host.suspended = Some(wait));
            result
        })
    }

    /// Calls [`Reconcile::observe`].
    pub fn observe<S: Reconcile>(self) -> Report<Result<Observation>> {
        self.report(Call::Observe, export::observe::<S>)
    }

    /// Calls [`Reconcile::undo`].
    pub fn undo<S: Reconcile>(self) -> Report<Result<()>> {
        self.report(Call::Run, export::undo::<S>)
    }

    /// Calls [`Reconcile::compare`].
    pub fn compare<S: Reconcile>(self) -> Report<Result<Vec<LiveDifference>>> {
        self.report(Call::Observe, export::compare::<S>)
    }

    /// Parses the `with` table and calls [`Stage::validate`].
    ///
    /// # Panics
    /// When the stage calls another interface than `context`, which would trap on a real host.
    pub fn validate<S: Stage>(self) -> Vec<Problem> {
        self.report(Call::Inspect, export::validate::<S>).result
    }

    /// Calls [`Stage::requirements`]. Empty for an invalid `with` table.
    ///
    /// # Panics
    /// As [`FakeHost::validate`].
    pub fn requirements<S: Stage>(self) -> Vec<Requirement> {
        self.report(Call::Inspect, export::requirements::<S>).result
    }

    /// The manifest, with the schema of the configuration in `config` and that of the outputs in `outputs`.
    ///
    /// # Panics
    /// When the stage calls the host, which would trap on a real host.
    pub fn describe<S: Stage>() -> Json {
        serde_json::from_str(&export::describe::<S>()).expect("the sdk writes JSON")
    }

    /// Runs a function of a stage on this host.
    pub fn with<T>(self, body: impl FnOnce() -> T) -> (T, Report<()>) {
        let installed = state::install(self.state);
        let result = body();
        (result, installed.into_report(()))
    }

    fn report<T>(self, call: Call, body: impl FnOnce() -> T) -> Report<T> {
        let installed = state::install(State { call, ..self.state });
        let result = body();
        installed.into_report(result)
    }
}
