//! A scripted host for unit tests of stages, with no wasm and no effects.
//!
//! In flows a script: configuration, files in memory, what programs print, what servers answer, what is denied. Out
//! comes a [`Report`] of all that the stage did. Nothing here touches the disk, the network or a real clock: time
//! passes only when the stage sleeps, or when a script says that something took time.
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

/// The host to be. Grants everything that it has a script for, unless [`FakeHost::deny`] says otherwise.
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
    /// Pipeline `pipeline`, stage `stage`, run `run-1`, first attempt, an empty `with` table, nothing else.
    pub fn new() -> FakeHost {
        FakeHost { state: State::new() }
    }

    /// The `with` table.
    #[must_use]
    pub fn config(mut self, with: Json) -> FakeHost {
        self.state.config = with;
        self
    }

    /// Another stage's outputs.
    #[must_use]
    pub fn input(mut self, stage: &str, outputs: Json) -> FakeHost {
        self.state.inputs.insert(stage.to_owned(), outputs);
        self
    }

    /// A variable of the stage's `env` table.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> FakeHost {
        self.state.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The environment that the stage names. It acts there under the token 1 unless [`FakeHost::fence`] says otherwise.
    #[must_use]
    pub fn environment(mut self, name: &str) -> FakeHost {
        self.state.environment = Some(name.to_owned());
        self.state.fence.get_or_insert(1);
        self
    }

    /// The token that the stage acts under.
    #[must_use]
    pub fn fence(mut self, fence: u64) -> FakeHost {
        self.state.fence = Some(fence);
        self
    }

    /// What the ledger says of the environment: the release that is current, and the one to go back to, each as
    /// [`crate::environment::Release`].
    #[must_use]
    pub fn ledger(mut self, current: Option<Json>, last_known_good: Option<Json>) -> FakeHost {
        self.state.ledger = (current, last_known_good);
        self
    }

    /// Which try it is; 1 unless set.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> FakeHost {
        self.state.attempt = attempt;
        self
    }

    /// Effects act on stand-ins, the stage is told.
    #[must_use]
    pub fn rehearsal(mut self) -> FakeHost {
        self.state.rehearsal = true;
        self
    }

    /// The stage is asked to stop: [`crate::context::cancelled`] is true and a sleep ends at once.
    #[must_use]
    pub fn cancelled(mut self) -> FakeHost {
        self.state.cancelled = true;
        self
    }

    /// Until the stage's timeout.
    #[must_use]
    pub fn remaining(mut self, remaining: Duration) -> FakeHost {
        self.state.remaining = Some(remaining);
        self
    }

    /// The stage goes on after a gate: `by` approved it, with this form.
    #[must_use]
    pub fn approved(self, by: &str, reason: Option<&str>, fields: Json) -> FakeHost {
        let mut decision = json!({ "token": "gate-1", "approved": true, "by": by, "reason": reason });
        decision["fields"] = fields;
        self.resumption(decision)
    }

    /// The stage goes on after a gate with this decision.
    #[must_use]
    pub fn resumption(mut self, decision: Json) -> FakeHost {
        self.state.resumption = Some(decision);
        self
    }

    /// A file of the workspace.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> FakeHost {
        self.state.files.insert(path.to_owned(), content.into());
        self
    }

    /// A file of the workspace that may be executed.
    #[must_use]
    pub fn executable(mut self, path: &str, content: impl Into<Vec<u8>>) -> FakeHost {
        self.state.executables.insert(path.to_owned());
        self.file(path, content)
    }

    /// A link of the workspace, an empty folder, or something else that is no file.
    #[must_use]
    pub fn node(mut self, path: &str, node: Node) -> FakeHost {
        self.state.nodes.insert(path.to_owned(), node);
        self
    }

    /// An artifact that an earlier stage published.
    #[must_use]
    pub fn artifact(mut self, name: &str, content: impl Into<Vec<u8>>) -> FakeHost {
        self.state.artifacts.insert(name.to_owned(), content.into());
        self
    }

    /// A secret that the stage may hold.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &str) -> FakeHost {
        self.state.secrets.insert(name.to_owned(), (value.to_owned(), false));
        self
    }

    /// A secret that the stage may also read.
    #[must_use]
    pub fn revealed_secret(mut self, name: &str, value: &str) -> FakeHost {
        self.state.secrets.insert(name.to_owned(), (value.to_owned(), true));
        self
    }

    /// What a program does. Scripts answer in the order in which they were added, each once; the last one that fits
    /// keeps answering. A program without a script can't be started.
    #[must_use]
    pub fn process(mut self, script: ProcessScript) -> FakeHost {
        self.state.processes.add(script);
        self
    }

    /// What a server answers; scripts are used up as those of [`FakeHost::process`]. Without a script, no connection.
    #[must_use]
    pub fn http(mut self, script: HttpScript) -> FakeHost {
        self.state.requests.add(script);
        self
    }

    /// How a release of a service behaves; scripts are used up as those of [`FakeHost::process`].
    #[must_use]
    pub fn service(mut self, script: ServiceScript) -> FakeHost {
        self.state.services.add(script);
        self
    }

    /// The release of a service that is current, as [`crate::service::Current`].
    #[must_use]
    pub fn current_release(mut self, service: &str, current: Json) -> FakeHost {
        self.state.current.insert(service.to_owned(), current);
        self
    }

    /// An image in a registry.
    #[must_use]
    pub fn image(mut self, reference: &str, digest: &str) -> FakeHost {
        self.state.images.insert(reference.to_owned(), state::image_descriptor(digest, 2));
        self
    }

    /// The time when the stage starts, since the Unix epoch.
    #[must_use]
    pub fn now(mut self, now: Duration) -> FakeHost {
        self.state.now = now;
        self
    }

    /// Makes calls of an interface fail as ones that the pipeline doesn't grant. `subject` is the program, URL, path,
    /// name or reference of the call, or `*` for all.
    #[must_use]
    pub fn deny(self, interface: &str, subject: &str) -> FakeHost {
        let error = Error::new(ErrorCode::PermissionDenied, format!("{interface}: `{subject}` is not granted"))
            .help(format!("grant it in the stage's `permissions`: `{subject}`"));
        self.fail(interface, subject, error)
    }

    /// Makes calls of an interface fail with an error of the test's choice; see [`FakeHost::deny`].
    #[must_use]
    pub fn fail(mut self, interface: &str, subject: &str, error: Error) -> FakeHost {
        self.state.faults.push((interface.to_owned(), subject.to_owned(), error));
        self
    }

    /// Runs a stage.
    pub fn run<S: Stage>(self) -> Report<Result<Outcome>> {
        self.report(export::run::<S>)
    }

    /// Asks a stage what became of its effect.
    pub fn observe<S: Reconcile>(self) -> Report<Result<Observation>> {
        self.report(export::observe::<S>)
    }

    /// Has a stage compensate.
    pub fn undo<S: Reconcile>(self) -> Report<Result<()>> {
        self.report(export::undo::<S>)
    }

    /// What is wrong with the `with` table.
    pub fn validate<S: Stage>(self) -> Vec<Diagnostic> {
        self.report(export::validate::<S>).result
    }

    /// The manifest, with the configuration's schema in `config`.
    ///
    /// # Panics
    /// When the stage calls the host for it, which a real host would answer with a trap.
    pub fn describe<S: Stage>() -> Json {
        serde_json::from_str(&export::describe::<S>()).expect("the sdk writes JSON")
    }

    /// Runs a piece of a stage.
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
