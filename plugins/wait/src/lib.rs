//! Waits for a time, without keeping a process. A signal with the token `wait` ends the wait early.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use stagewright_sdk::gate::{self, Resumption};
use stagewright_sdk::{DurationText, JsonSchema, Manifest, Outcome, Problem, Result, Stage, Suspension, log, schemars};

/// The stage's `with` table.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "duration": "30m", "reason": "caches have to expire" }))]
pub struct Config {
    /// How long to wait, as in `30m`, 1 s to 30 days.
    pub duration: DurationText,
    /// Why, for people who look at the run.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What `stagewright signal` ends the wait with.
const TOKEN: &str = "wait";
/// The range that the host accepts.
const DURATION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 60 * 60);

/// The plugin.
#[derive(Debug)]
pub struct Wait;

impl Stage for Wait {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
    }

    fn validate(config: &Config) -> Vec<Problem> {
        let is_allowed = DURATION.contains(&config.duration.0);
        let problem = || Problem::at("duration", "a wait takes 1 s to 30 days");
        (!is_allowed).then(problem).into_iter().collect()
    }

    fn run(config: Config) -> Result<Outcome> {
        match gate::resumption()? {
            None => {
                let reason = config.reason.unwrap_or_else(|| "waits until its time has passed".to_owned());
                Ok(Outcome::Suspended(Suspension::new(TOKEN, &reason).poll_after(config.duration.0)))
            }
            Some(Resumption::Signalled { .. }) => {
                log::info("a signal ended the wait");
                Ok(Outcome::Succeeded)
            }
            Some(_) => Ok(Outcome::Succeeded),
        }
    }
}

stagewright_sdk::export_stage!(Wait);

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use stagewright_sdk::fake::{FakeHost, Report};

    use super::*;

    fn run(host: FakeHost) -> Report<Result<Outcome>> {
        host.config(json!({ "duration": "90s", "reason": "caches" })).run::<Wait>()
    }

    #[test]
    fn the_first_call_waits_and_the_second_one_ends() {
        let first = run(FakeHost::new());
        assert!(matches!(first.result, Ok(Outcome::Suspended(_))), "{:?}", first.result);
        let wait = first.suspended.unwrap();
        assert_eq!((wait.reason.as_str(), wait.poll_after), ("caches", Some(Duration::from_secs(90))));
        for cause in ["poll", "signal"] {
            let ended = json!({ "token": "wait", "cause": cause, "payload": Json::Null });
            assert_eq!(run(FakeHost::new().resumption(ended)).result, Ok(Outcome::Succeeded), "{cause}");
        }
    }

    #[test]
    fn what_the_host_refuses_is_a_mistake_of_the_configuration() {
        for duration in ["0s", "31d"] {
            let found = FakeHost::new().config(json!({ "duration": duration })).validate::<Wait>();
            assert_eq!(found[0].key.as_deref(), Some("duration"), "{duration}");
        }
    }
}
