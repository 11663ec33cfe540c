//! Converts plain values to the host's resources, and its resources to plain values. The types themselves don't know the
//! host, so that the fake one can use them as well.

use std::time::Duration;

use crate::artifacts::Artifact;
use crate::context::{Need, NeedOutcome};
use crate::descriptor::Descriptor;
use crate::duration::millis;
use crate::test_case::{FailedTest, TestCase};
use crate::{Error, Finding, Result, Retry, host};
#[cfg(target_arch = "wasm32")]
use crate::{Observation, Outcome, Problem, Requirement};

impl From<host::types::Error> for Error {
    fn from(error: host::types::Error) -> Error {
        let retry = match (error.retry_after_ms(), error.retryable()) {
            (Some(delay), _) => Retry::After(Duration::from_millis(delay)),
            (None, Some(true)) => Retry::Anytime,
            (None, Some(false)) => Retry::Never,
            (None, None) => Retry::Unknown,
        };
        let (code, message, file) = (error.code(), error.message(), error.file().map(Box::new));
        Error { code, message, retry, causes: error.causes(), help: error.help(), file }
    }
}

impl From<Error> for host::types::Error {
    fn from(error: Error) -> host::types::Error {
        let Error { code, message, retry, causes, help, file } = error;
        let own = host::types::Error::new(&code, &message);
        causes.iter().for_each(|cause| own.add_cause(cause));
        match retry {
            Retry::Unknown => {}
            Retry::Never => own.set_retryable(false),
            Retry::Anytime => own.set_retryable(true),
            Retry::After(delay) => own.set_retry_after_ms(millis(delay)),
        }
        if let Some(help) = help {
            own.set_help(&help);
        }
        if let Some((path, position)) = file.as_deref() {
            own.set_file(path, *position);
        }
        own
    }
}

#[cfg(target_arch = "wasm32")]
impl From<Problem> for host::types::Problem {
    fn from(Problem { severity, code, message, key, help }: Problem) -> host::types::Problem {
        let own = host::types::Problem::new(severity, &code, &message);
        key.iter().for_each(|key| own.key(key));
        help.iter().for_each(|help| own.help(help));
        own
    }
}

#[cfg(target_arch = "wasm32")]
impl From<Outcome> for host::types::Outcome {
    fn from(outcome: Outcome) -> host::types::Outcome {
        match outcome {
            Outcome::Succeeded => host::types::Outcome::succeeded(),
            Outcome::Skipped(reason) => host::types::Outcome::skipped(&reason),
            Outcome::Suspended(suspension) => host::types::Outcome::suspended(suspension.0),
        }
    }
}

#[cfg(target_arch = "wasm32")]
impl From<Observation> for host::types::Observation {
    fn from(observation: Observation) -> host::types::Observation {
        match observation {
            Observation::NotStarted => host::types::Observation::not_started(),
            Observation::InProgress => host::types::Observation::in_progress(),
            Observation::Applied(what) => host::types::Observation::applied(&what),
            Observation::Failed(why) => host::types::Observation::failed(&why),
            Observation::Unknown(why) => host::types::Observation::unknown(&why),
        }
    }
}

#[cfg(target_arch = "wasm32")]
impl From<Requirement> for host::types::Requirement {
    fn from(Requirement { permission, entry, reason, optional }: Requirement) -> host::types::Requirement {
        let own = host::types::Requirement::new(permission.key(), &entry);
        if !reason.is_empty() {
            own.reason(&reason);
        }
        if optional {
            own.optional();
        }
        own
    }
}

impl Finding {
    /// Reports it. A second report counts as a second finding.
    pub fn report(&self) {
        let own = host::findings::Finding::new(self.severity, &self.rule, &self.message);
        if let Some(file) = &self.file {
            own.file(file);
        }
        if let Some((start, end)) = self.range {
            own.range(start, end);
        }
        if let Some(help) = &self.help {
            own.help(help);
        }
        if let Some(suggestion) = &self.suggestion {
            own.suggestion(suggestion);
        }
        if let Some(fingerprint) = &self.fingerprint {
            own.fingerprint(fingerprint);
        }
        own.report();
    }
}

impl From<host::test_reports::FailedTest> for FailedTest {
    fn from(test: host::test_reports::FailedTest) -> FailedTest {
        FailedTest { suite: test.suite(), name: test.name(), file: test.file() }
    }
}

impl TestCase {
    /// Reports it. A second report counts as a second case.
    pub fn report(&self) {
        let own = host::test_reports::TestCase::new(&self.suite, &self.name, self.outcome);
        if let Some(duration) = self.duration {
            own.duration_ms(millis(duration));
        }
        if let Some(message) = &self.message {
            own.message(message);
        }
        if let Some(output) = &self.output {
            own.output(output);
        }
        if let Some((path, position)) = &self.file {
            own.file(path, *position);
        }
        if self.failures > 0 {
            own.failures(self.failures);
        }
        own.report();
    }
}

impl TryFrom<host::context::Need> for Need {
    type Error = Error;

    fn try_from(need: host::context::Need) -> Result<Need> {
        Ok(Need {
            stage: need.stage(),
            stage_id: need.stage_id(),
            outcome: NeedOutcome::parse(need.outcome()),
            conclusion: NeedOutcome::parse(need.conclusion()),
            outputs: serde_json::from_str(&need.outputs())?,
        })
    }
}

impl From<host::registry::Descriptor> for Descriptor {
    fn from(descriptor: host::registry::Descriptor) -> Descriptor {
        Descriptor { media_type: descriptor.media_type(), digest: descriptor.digest(), size: descriptor.size() }
    }
}

impl From<host::artifacts::Artifact> for Artifact {
    fn from(artifact: host::artifacts::Artifact) -> Artifact {
        Artifact {
            name: artifact.name(),
            digest: artifact.digest(),
            media_type: artifact.media_type(),
            size: artifact.size(),
            stage_id: artifact.stage_id(),
            folder: artifact.folder(),
        }
    }
}
