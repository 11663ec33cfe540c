//! The last door of an attempt: what it came to leaves through here, for the journal and for people, without secrets.
//!
//! Whatever happened to mask a text on the way is no reason to leave it out here: a secret that came late, or from
//! another stage, may be in what was put down before.

use std::collections::BTreeMap;

use stagewright_engine::{AttemptEnd, AttemptReport, Failure, Field, Finding, Gate, Observation, Problem, ReleaseNote};

use crate::mask::Masker;

/// `report` with every secret masked.
pub(crate) fn masked(report: AttemptReport, masker: &Masker) -> AttemptReport {
    let AttemptReport { end, outputs, release } = report;
    let text = |text: String| masker.text(&text);
    let outputs = outputs.into_iter().map(|(name, value)| (text(name), masker.json(&value)));
    let release =
        release.map(|ReleaseNote { artifact, url }| ReleaseNote { artifact: text(artifact), url: url.map(text) });
    AttemptReport { end: masked_end(end, masker), outputs: outputs.collect::<BTreeMap<_, _>>(), release }
}

fn masked_end(end: AttemptEnd, masker: &Masker) -> AttemptEnd {
    match end {
        AttemptEnd::Succeeded => AttemptEnd::Succeeded,
        AttemptEnd::Skipped(why) => AttemptEnd::Skipped(masker.text(&why)),
        AttemptEnd::Suspended(gate) => AttemptEnd::Suspended(masked_gate(gate, masker)),
        AttemptEnd::Observed(observation) => AttemptEnd::Observed(match observation {
            Observation::Found(Finding::Applied(what)) => Observation::Found(Finding::Applied(masker.text(&what))),
            Observation::Found(Finding::Failed(why)) => Observation::Found(Finding::Failed(masker.text(&why))),
            Observation::Found(Finding::NotStarted) => Observation::Found(Finding::NotStarted),
            Observation::InProgress => Observation::InProgress,
            Observation::Unknown(why) => Observation::Unknown(masker.text(&why)),
        }),
        AttemptEnd::Unsuccessful(outcome, failure) => {
            AttemptEnd::Unsuccessful(outcome, masked_failure(failure, masker))
        }
    }
}

fn masked_failure(failure: Failure, masker: &Masker) -> Failure {
    Failure {
        message: masker.text(&failure.message),
        causes: failure.causes.iter().map(|cause| masker.text(cause)).collect(),
        help: failure.help.map(|help| masker.text(&help)),
        ..failure
    }
}

fn masked_gate(gate: Gate, masker: &Masker) -> Gate {
    let field =
        |field: Field| Field { name: masker.text(&field.name), description: masker.text(&field.description), ..field };
    Gate {
        message: masker.text(&gate.message),
        approvers: gate.approvers.iter().map(|who| masker.text(who)).collect(),
        fields: gate.fields.into_iter().map(field).collect(),
        ..gate
    }
}

/// `problem` with every secret masked.
pub(crate) fn masked_problem(problem: Problem, masker: &Masker) -> Problem {
    Problem {
        level: problem.level,
        code: masker.text(&problem.code),
        message: masker.text(&problem.message),
        path: problem.path.map(|path| masker.text(&path)),
        help: problem.help.map(|help| masker.text(&help)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stagewright_engine::{FailureKind, FieldKind, GateKind, Outcome, Timestamp};

    use super::*;

    const SECRET: &str = "hunter22";

    /// Whether nothing of it shows when `end` is told, and something was there to be hidden.
    fn is_hidden(end: AttemptEnd) -> bool {
        let masker = Masker::default();
        masker.add(SECRET, true);
        let says = |text: &str| text.contains(SECRET);
        let report = AttemptReport {
            end,
            outputs: BTreeMap::from([(format!("{SECRET}-a"), json!({ SECRET: [SECRET] }))]),
            release: Some(ReleaseNote { artifact: SECRET.into(), url: Some(format!("https://{SECRET}.example.org")) }),
        };
        says(&format!("{:?}", report.end)) && !says(&format!("{:?}", masked(report, &masker)))
    }

    #[test]
    fn nothing_of_an_attempts_end_shows_a_secret() {
        let failure = Failure {
            kind: FailureKind::Reported,
            message: SECRET.into(),
            causes: vec![SECRET.into()],
            help: Some(SECRET.into()),
            retryable: true,
        };
        let field = Field { name: SECRET.into(), kind: FieldKind::Text, description: SECRET.into(), required: true };
        let gate = Gate {
            token: "t".into(),
            kind: GateKind::Approval,
            message: SECRET.into(),
            approvers: vec![SECRET.into()],
            members: Vec::new(),
            approvals: 1,
            fields: vec![field],
            expires: Some(Timestamp(1)),
            until: None,
            binding: None,
        };
        for end in [
            AttemptEnd::Skipped(SECRET.into()),
            AttemptEnd::Unsuccessful(Outcome::Failed, failure),
            AttemptEnd::Suspended(gate),
            AttemptEnd::Observed(Observation::Unknown(SECRET.into())),
            AttemptEnd::Observed(Observation::Found(Finding::Applied(SECRET.into()))),
            AttemptEnd::Observed(Observation::Found(Finding::Failed(SECRET.into()))),
        ] {
            assert!(is_hidden(end.clone()), "{end:?}");
        }
    }
}
