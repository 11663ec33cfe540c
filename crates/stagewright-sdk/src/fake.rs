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
mod script;
mod state;

use std::time::Duration;

use serde_json::{Value as Json, json};

pub use report::{LogLine, OpenedGate, Published, Release, Report, Sent, Spawned};
pub use script::{HttpScript, ProcessScript, ServiceScript};

use crate::workspace::Node;
use crate::{Diagnostic, Error, ErrorCode, Observation, Outcome, Reconcile, Result, Stage, export};
use state::State;

/// Sets up a fake host. It grants everything that it has a script for, except what [`FakeHost::deny`] denies.
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

    /// Sets the outputs of another stage.
    #[must_use]
    pub fn input(mut self, stage: &str, outputs: Json) -> FakeHost {
        self.state.inputs.insert(stage.to_owned(), outputs);
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

    /// Runs the stage after a decision on its gate.
    #[must_use]
    pub fn resumption(mut self, decision: Json) -> FakeHost {
        self.state.resumption = Some(decision);
        self
    }

    /// Adds a file to the workspace.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> FakeHost {
        self.state.files.insert(path.to_owned(), content.into());
        self
    }

    /// Adds an executable file to the workspace.
    #[must_use]
    pub fn executable(mut self, path: &str, content: impl Into<Vec<u8>>) -> FakeHost {
        self.state.executables.insert(path.to_owned());
        self.file(path, content)
    }

    /// Adds a link, an empty folder, or a special file to the workspace.
    #[must_use]
    pub fn node(mut self, path: &str, node: Node) -> FakeHost {
        self.state.nodes.insert(path.to_owned(), node);
        self
    }

    /// Adds an artifact of an earlier stage.
    #[must_use]
    pub fn artifact(mut self, name: &str, content: impl Into<Vec<u8>>) -> FakeHost {
        self.state.artifacts.insert(name.to_owned(), content.into());
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

    /// Denies calls of an interface, like a pipeline that doesn't grant them. `subject` is the program, URL, path, name or
    /// reference of the call, or `*` for all calls.
    #[must_use]
    pub fn deny(self, interface: &str, subject: &str) -> FakeHost {
        let error = Error::new(ErrorCode::PermissionDenied, format!("{interface}: `{subject}` is not granted"))
            .help(format!("grant it in the stage's `permissions`: `{subject}`"));
        self.fail(interface, subject, error)
    }

    /// Makes calls of an interface fail with `error`; see [`FakeHost::deny`].
    #[must_use]
    pub fn fail(mut self, interface: &str, subject: &str, error: Error) -> FakeHost {
        self.state.faults.push((interface.to_owned(), subject.to_owned(), error));
        self
    }

    /// Calls [`Stage::run`].
    pub fn run<S: Stage>(self) -> Report<Result<Outcome>> {
        self.report(export::run::<S>)
    }

    /// Calls [`Reconcile::observe`].
    pub fn observe<S: Reconcile>(self) -> Report<Result<Observation>> {
        self.report(export::observe::<S>)
    }

    /// Calls [`Reconcile::undo`].
    pub fn undo<S: Reconcile>(self) -> Report<Result<()>> {
        self.report(export::undo::<S>)
    }

    /// Parses the `with` table and calls [`Stage::validate`].
    pub fn validate<S: Stage>(self) -> Vec<Diagnostic> {
        self.report(export::validate::<S>).result
    }

    /// The manifest, with the configuration's schema in `config`.
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

    fn report<T>(self, body: impl FnOnce() -> T) -> Report<T> {
        let installed = state::install(self.state);
        let result = body();
        installed.into_report(result)
    }
}
