//! An untrusted stage: it performs the configured actions, ignores every refusal, and publishes the results as outputs.
//!
//! The output `answers` has for each action what the host returned, or the code of the error. So a test finds the result of
//! an attack and that of its granted counterpart in the same place.

mod action;
mod flood;
mod request;
mod spelling;
mod suspend;

use serde::Deserialize;
use stagewright_sdk::{JsonSchema, Manifest, Outcome, Result, Stage, outputs, schemars};

use action::Action;

/// The stage's `with` table.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The actions, performed in order, regardless of failures.
    actions: Vec<Action>,
    /// Answer failures with their message as well, and not with the code alone.
    #[serde(default)]
    messages: bool,
}

/// The stage.
pub struct Stranger;

impl Stage for Stranger {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new("stranger", env!("CARGO_PKG_VERSION"))
            .description("Tries what it was not granted")
            .output::<Vec<String>>("answers", "The result of each action")
            .open_outputs()
    }

    fn run(config: Config) -> Result<Outcome> {
        let mut answers = Vec::new();
        let mut end = Ok(Outcome::Succeeded);
        for action in config.actions {
            match action.perform(&mut end) {
                Ok(answer) => answers.push(answer),
                Err(error) if config.messages => answers.push(format!("{:?}: {}", error.code, error.message)),
                Err(error) => answers.push(format!("{:?}", error.code)),
            }
        }
        outputs::set("answers", &answers)?;
        end
    }
}

stagewright_sdk::export_stage!(Stranger);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value as Json, json};
    use stagewright_sdk::fake::{FakeHost, HttpScript, ProcessScript};

    use super::*;

    fn answers(host: &FakeHost, actions: &Json) -> Json {
        let with = json!({ "messages": true, "actions": actions });
        host.clone().config(with).run::<Stranger>().outputs["answers"].clone()
    }

    #[test]
    fn each_action_answers_with_what_the_host_returned() {
        let host = FakeHost::new()
            .input("build", json!({ "a": 1 }))
            .artifact("report", "x")
            .http(HttpScript::get("http://a/"))
            .http(HttpScript::get("http://b/").status(404))
            .process(ProcessScript::new("slow", [""; 0]).stdout("hi").takes(Duration::from_secs(9)));
        let actions = json!([
            { "do": "needs" },
            { "do": "source", "property": "trigger" },
            { "do": "settings" },
            { "do": "published" },
            { "do": "metric", "name": "a b", "value": 1.0, "unit": "" },
            { "do": "call-all", "urls": ["http://a/", "http://b/", "http://c/"], "at-most": 2 },
            { "do": "first-of", "program": "slow", "args": [], "after-ms": 10 },
            { "do": "build", "program": "slow", "capture": 1 },
            { "do": "open", "message": "?", "fields": [["a", null], ["a", ["x"]]] },
        ]);
        let expected = json!([
            "build Succeeded {\"a\":1}",
            "manual",
            "none",
            "report earlier false",
            "ErrorCode::InvalidArgument: invalid metric name `a b`",
            "200 404 ErrorCode::Unavailable",
            "timer",
            "ErrorCode::ResourceExhausted: the output of `slow` exceeds the capture limit of 1B",
            "ErrorCode::InvalidArgument: two fields of the approval have the same name",
        ]);
        assert_eq!(answers(&host, &actions), expected);
    }

    #[test]
    fn a_wait_is_the_stages_result_and_its_end_an_answer() {
        let actions = json!([{ "do": "suspend", "token": "job-7", "reason": "runs", "poll-after-ms": 1000 }]);
        let host = FakeHost::new().config(json!({ "actions": actions }));
        let wait = host.clone().run::<Stranger>().suspended.unwrap();
        assert_eq!((wait.token.as_str(), wait.poll_after), ("job-7", Some(Duration::from_secs(1))));
        let ended = host.polled("job-7").run::<Stranger>();
        let answer = json!({ "token": "job-7", "cause": "poll", "payload": null }).to_string();
        assert_eq!(ended.outputs["answers"], json!([answer]));
    }
}
