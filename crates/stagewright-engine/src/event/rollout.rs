//! Rollouts: deploys that give a new version its requests step by step.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// The most bytes of each text of a rollout.
const TEXT: usize = 4 * 1024;

/// The most bytes of a plugin's own state, written as compact JSON.
const STATE: usize = 64 * 1024;

/// How far a deploy is that gives a new version its requests step by step.
///
/// Until it has finished, its run keeps the environment, even while it waits and no process drives it: another deploy
/// would otherwise meet an environment in which two versions share the requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rollout {
    /// What is deployed.
    pub service: String,
    /// The name of the new version on its target.
    pub version: String,
    /// The new version's content by digest, as in `registry.example.org/app@sha256:…`.
    pub artifact: String,
    /// As in `canary`.
    pub strategy: String,
    /// What it does now, or how it ended.
    pub phase: RolloutPhase,
    /// How many of its steps are done, 0 to `steps`.
    pub step: u32,
    /// The number of its steps.
    pub steps: u32,
    /// How many percent of the requests the new version gets, 0 to 100.
    pub weight: u32,
    /// What it is doing or waiting for, or why it ended, in a sentence.
    #[serde(default)]
    pub message: String,
    /// What its plugin needs to continue it. Nothing else reads it.
    #[serde(default)]
    pub state: Json,
}

/// What a rollout does, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutPhase {
    /// Its steps are carried out.
    Progressing,
    /// It waits for a time or for a person.
    Paused,
    /// The new version gets all requests.
    Completed,
    /// It was given up, and the earlier version gets all requests again.
    Aborted,
    /// It was given up, but the earlier version couldn't be restored.
    Degraded,
}

impl RolloutPhase {
    /// The name used in JSON and in the terminal.
    pub fn as_str(self) -> &'static str {
        match self {
            RolloutPhase::Progressing => "progressing",
            RolloutPhase::Paused => "paused",
            RolloutPhase::Completed => "completed",
            RolloutPhase::Aborted => "aborted",
            RolloutPhase::Degraded => "degraded",
        }
    }

    /// Whether one version gets all requests, so that other runs may deploy.
    pub fn is_finished(self) -> bool {
        matches!(self, RolloutPhase::Completed | RolloutPhase::Aborted)
    }
}

impl Rollout {
    /// Checks the limits of its fields.
    ///
    /// # Errors
    /// If one of them is exceeded.
    pub fn check(&self) -> Result<(), RolloutError> {
        let Rollout { service, version, artifact, strategy, step, steps, weight, message, state, .. } = self;
        let texts = [
            ("service", service),
            ("version", version),
            ("artifact", artifact),
            ("strategy", strategy),
            ("message", message),
        ];
        if let Some((field, text)) = texts.into_iter().find(|(_, text)| text.len() > TEXT) {
            return Err(RolloutError::TooLong { field, bytes: text.len() });
        }
        let bytes = state.to_string().len();
        if bytes > STATE {
            return Err(RolloutError::StateTooLarge(bytes));
        }
        if step > steps {
            return Err(RolloutError::Step { step: *step, steps: *steps });
        }
        if *weight > 100 { Err(RolloutError::Weight(*weight)) } else { Ok(()) }
    }
}

/// What is wrong with a [`Rollout`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RolloutError {
    /// A text is too long.
    #[error("the field `{field}` of a rollout must have at most {TEXT} bytes, not {bytes}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// The plugin's state has this many bytes.
    #[error("the state of a rollout must have at most {STATE} bytes of JSON, not {0}")]
    StateTooLarge(usize),
    /// More steps are done than there are.
    #[error("a rollout of {steps} steps can't have done {step}")]
    Step {
        /// Steps that are done.
        step: u32,
        /// All steps.
        steps: u32,
    },
    /// The weight isn't a percentage.
    #[error("the weight of a rollout must be 0 to 100 percent, not {0}")]
    Weight(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout() -> Rollout {
        Rollout {
            service: "app".to_owned(),
            version: "app-7".to_owned(),
            artifact: "local/app@sha256:1".to_owned(),
            strategy: "canary".to_owned(),
            phase: RolloutPhase::Paused,
            step: 2,
            steps: 4,
            weight: 10,
            message: String::new(),
            state: Json::Null,
        }
    }

    #[test]
    fn limits_are_checked() {
        assert_eq!(rollout().check(), Ok(()));
        let long = Rollout { message: "x".repeat(TEXT + 1), ..rollout() };
        assert_eq!(long.check(), Err(RolloutError::TooLong { field: "message", bytes: TEXT + 1 }));
        let large = Rollout { state: "x".repeat(STATE).into(), ..rollout() };
        assert_eq!(large.check(), Err(RolloutError::StateTooLarge(STATE + 2)));
        assert_eq!(Rollout { step: 5, ..rollout() }.check(), Err(RolloutError::Step { step: 5, steps: 4 }));
        assert_eq!(Rollout { weight: 101, ..rollout() }.check(), Err(RolloutError::Weight(101)));
    }
}
