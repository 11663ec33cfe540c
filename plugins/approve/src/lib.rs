//! Waits for people to approve. The first call opens a gate and suspends the stage. The host calls again after the
//! decision, and that call publishes it as outputs.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;
use stagewright_sdk::gate::{self, Approval, Decision, FieldKind};
use stagewright_sdk::{
    DurationText, Error, ErrorCode, JsonSchema, Manifest, Outcome, Problem, Result, Stage, log, outputs, schemars,
};

/// The stage's `with` table.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "message": "Deploy ${{ inputs.version }} to production?" }))]
pub struct Config {
    /// The question that approvers see.
    pub message: String,
    /// Who may approve or reject: `team:NAME` or a user. If it is empty: the approvers of the gate's environments, or
    /// everyone if these have none.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// The environments that an approval covers. It covers no others.
    #[serde(default)]
    pub environments: Vec<String>,
    /// How many approvals are required, 1 to 100.
    #[serde(default = "one")]
    pub approvals: u32,
    /// The fields of the form that comes with an approval.
    #[serde(default)]
    pub fields: Vec<Field>,
    /// How long the gate stays open, as in `2h`, at most 366 days. Without it, the gate doesn't expire.
    pub expires: Option<DurationText>,
}

/// A field of the form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Field {
    /// Its key in the output `fields`.
    pub name: String,
    /// Its type.
    #[serde(default)]
    pub kind: Kind,
    /// The texts to choose from. Without any, every value of the type is accepted.
    #[serde(default)]
    pub choices: Vec<String>,
    /// The text shown next to it.
    #[serde(default)]
    pub description: String,
    /// Whether an approval must have a value for it.
    #[serde(default)]
    pub required: bool,
}

/// The type of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Any text.
    #[default]
    Text,
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
}

/// The limit of the host's `gate` interface.
const MAX_APPROVALS: u32 = 100;
/// The range that the host accepts.
const EXPIRES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(366 * 24 * 60 * 60);

fn one() -> u32 {
    1
}

/// The plugin.
#[derive(Debug)]
pub struct Approve;

impl Stage for Approve {
    type Config = Config;

    fn manifest() -> Manifest {
        stagewright_sdk::manifest!()
            .output::<String>("approved-by", "Who approved")
            .output::<String>("reason", "Why, when a reason was given")
            .output::<BTreeMap<String, Json>>("fields", "The form, filled in")
    }

    fn validate(config: &Config) -> Vec<Problem> {
        let mut found = Vec::new();
        if config.message.trim().is_empty() {
            found.push(Problem::at("message", "the message is empty"));
        }
        if config.approvals == 0 {
            let problem = Problem::at("approvals", "a gate with 0 approvals would never wait");
            found.push(problem.help("require at least 1 approval, or remove the stage"));
        }
        if config.approvals > MAX_APPROVALS {
            let message = format!("a gate takes 1 to {MAX_APPROVALS} approvals, not {}", config.approvals);
            found.push(Problem::at("approvals", message));
        }
        if let Some(DurationText(expires)) = config.expires.filter(|DurationText(expires)| !EXPIRES.contains(expires)) {
            let message = format!("a gate expires after 1 ms to 366 days, not after {} ms", expires.as_millis());
            found.push(Problem::at("expires", message));
        }
        // Only the host knows how many members a team has, so a list with a team isn't checked.
        let teams = config.approvers.iter().any(|approver| approver.starts_with("team:"));
        if !teams && !config.approvers.is_empty() && config.approvers.len() < config.approvals as usize {
            let (required, listed) = (config.approvals, config.approvers.len());
            let message = format!("{required} approvals are required, but `approvers` lists {listed}");
            found.push(Problem::at("approvals", message));
        }
        for (index, field) in config.fields.iter().enumerate() {
            if config.fields[..index].iter().any(|earlier| earlier.name == field.name) {
                let message = format!("the field name `{}` is used twice", field.name);
                found.push(Problem::at(format!("fields[{index}].name"), message));
            }
            if !field.choices.is_empty() && field.kind != Kind::Text {
                found.push(Problem::at(format!("fields[{index}].choices"), "only a text can be chosen from a list"));
            }
        }
        found
    }

    fn run(config: Config) -> Result<Outcome> {
        match gate::decision()? {
            Some(decision) => publish_decision(decision),
            None => open_gate(&config),
        }
    }
}

fn open_gate(config: &Config) -> Result<Outcome> {
    let mut approval = Approval::new(&config.message);
    approval.approvals(config.approvals);
    for approver in &config.approvers {
        approval.approver(approver);
    }
    for Field { name, kind, choices, description, required } in &config.fields {
        let kind = match kind {
            Kind::Text if !choices.is_empty() => {
                approval.choice(name, choices, description, *required);
                continue;
            }
            Kind::Text => FieldKind::Text,
            Kind::Number => FieldKind::Number,
            Kind::Boolean => FieldKind::Boolean,
        };
        approval.field(name, kind, description, *required);
    }
    if let Some(DurationText(expires)) = config.expires {
        approval.expires(expires);
    }
    Ok(Outcome::Suspended(approval.open()?))
}

fn publish_decision(decision: Decision) -> Result<Outcome> {
    let Decision { approved, by, reason, fields, rehearsed, .. } = decision;
    let because = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    if !approved {
        return Err(Error::new(ErrorCode::PermissionDenied, format!("{by} rejected it{because}")));
    }
    let how = if rehearsed { "approved in rehearsal" } else { "approved" };
    log::info(format!("{by} {how}{because}"));
    outputs::set("approved-by", &by)?;
    if let Some(reason) = reason {
        outputs::set("reason", &reason)?;
    }
    outputs::set("fields", &fields)?;
    Ok(Outcome::Succeeded)
}

stagewright_sdk::export_stage!(Approve);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stagewright_sdk::fake::FakeHost;

    use super::*;

    fn with() -> Json {
        json!({
            "message": "Ship it?",
            "approvers": ["team:release"],
            "approvals": 2,
            "fields": [{ "name": "ticket", "description": "Which change", "required": true }, { "name": "risk", "kind": "number" }, { "name": "ring", "choices": ["a", "b"] }],
            "expires": "2h",
        })
    }

    #[test]
    fn the_first_call_opens_a_gate_and_suspends() {
        let report = FakeHost::new().config(with()).run::<Approve>();
        assert!(matches!(report.result, Ok(Outcome::Suspended(_))), "{:?}", report.result);
        let wait = report.suspended.unwrap();
        assert_eq!((wait.token.as_str(), wait.reason.as_str()), ("gate-1", "Ship it?"));
        let gate = &report.gates[0];
        assert_eq!((gate.approvals, gate.expires_ms), (Some(2), Some(7_200_000)));
        let kinds: Vec<_> = gate.fields.iter().map(|field| (field.name.as_str(), field.kind, field.required)).collect();
        let expected =
            [("ticket", FieldKind::Text, true), ("risk", FieldKind::Number, false), ("ring", FieldKind::Text, false)];
        assert_eq!(kinds, expected);
        let choices = ["a".to_owned(), "b".to_owned()];
        assert_eq!(
            (gate.fields[0].choices.as_ref(), gate.fields[2].choices.as_deref()),
            (None, Some(choices.as_slice()))
        );
    }

    #[test]
    fn the_second_call_publishes_the_decision() {
        let host = FakeHost::new().config(with()).approved("ada", Some("tested"), json!({ "ticket": "T-1" }));
        let report = host.run::<Approve>();
        assert_eq!(report.result, Ok(Outcome::Succeeded));
        assert_eq!(report.outputs["approved-by"], "ada");
        assert_eq!(report.outputs["reason"], "tested");
        assert_eq!(report.outputs["fields"], json!({ "ticket": "T-1" }));
        assert_eq!(report.gates, []);
    }

    #[test]
    fn a_rejection_is_a_failure() {
        let decision = json!({ "token": "gate-1", "approved": false, "by": "ada", "reason": "friday" });
        let error = FakeHost::new().config(with()).resumption(decision).run::<Approve>().result.unwrap_err();
        assert_eq!(error.message, "ada rejected it: friday");
    }

    #[test]
    fn gates_that_cannot_be_approved_are_refused() {
        let paths = |with: Json| -> Vec<_> {
            FakeHost::new().config(with).validate::<Approve>().into_iter().filter_map(|found| found.key).collect()
        };
        assert_eq!(paths(with()), Vec::<String>::new());
        assert_eq!(paths(json!({ "message": " ", "approvals": 0 })), ["message", "approvals"]);
        assert_eq!(paths(json!({ "message": "?", "approvers": ["ada"], "approvals": 2 })), ["approvals"]);
        assert_eq!(paths(json!({ "message": "?", "fields": [{ "name": "a" }, { "name": "a" }] })), ["fields[1].name"]);
        assert_eq!(paths(json!({ "message": "?", "expires": "soon" })), ["expires"]);
    }
}
