//! The last door of an attempt: what it came to leaves through here, for the journal and for people, without secrets.
//!
//! Whatever happened to mask a text on the way is no reason to leave it out here: a secret that came late, or from
//! another stage, may be in what was put down before.

use std::borrow::Cow;
use std::collections::BTreeMap;

use stagewright_engine::{AttemptEnd, AttemptReport, Failure, Field, Finding, Gate, Observation, Problem, ReleaseNote};
use stagewright_model::{moves_cursor, terminal_text};

use crate::mask::Masker;

/// Of one text. What a stage came to is journalled, kept in memory and shown to people as a whole, unlike its log.
const TEXT: usize = 64 * 1024;
/// Of the causes of one failure, the nearest.
const CAUSES: usize = 100;

/// `text` with every secret masked, and cut where it is too long: in this order, since half a secret isn't found.
pub(crate) fn masked_text(text: &str, masker: &Masker) -> String {
    let mut text = masker.text(text);
    if text.len() > TEXT {
        text.truncate(text.floor_char_boundary(TEXT));
        text.push_str(" (cut here: too long)");
    }
    text
}

/// The same for what only people read, often a program's own words: as in a log, without what a terminal would obey.
pub(crate) fn masked_words(text: &str, masker: &Masker) -> String {
    // Twice: a secret may be overwritten on the line that it stood on, or only come about by overwriting.
    let text = masker.text(text);
    let lines = text.split('\n').map(|line| match secret_in_turns(line, masker) {
        Some(masked) => Cow::Owned(masked),
        None => Cow::Borrowed(line),
    });
    masked_text(&terminal_text(&lines.collect::<Vec<_>>().join("\n")), masker)
}

/// What was written where the cursor was moved between the parts of a secret, masked: overwriting would leave a part of it.
/// None for text without such a secret.
pub(crate) fn secret_in_turns(text: &str, masker: &Masker) -> Option<String> {
    let written: String = text.chars().filter(|&character| !moves_cursor(character)).collect();
    let masked = masker.text(&written);
    (masked != written).then_some(masked)
}

/// `report` with every secret masked.
pub(crate) fn masked(report: AttemptReport, masker: &Masker) -> AttemptReport {
    let AttemptReport { end, outputs, artifacts, release, made } = report;
    let text = |text: String| masked_text(&text, masker);
    let outputs = outputs.into_iter().map(|(name, value)| (text(name), masker.json(&value)));
    let release =
        release.map(|ReleaseNote { artifact, url }| ReleaseNote { artifact: text(artifact), url: url.map(text) });
    let outputs = outputs.collect::<BTreeMap<_, _>>();
    AttemptReport { end: masked_end(end, masker), outputs, artifacts, release, made }
}

fn masked_end(end: AttemptEnd, masker: &Masker) -> AttemptEnd {
    match end {
        AttemptEnd::Succeeded => AttemptEnd::Succeeded,
        AttemptEnd::Skipped(why) => AttemptEnd::Skipped(masked_words(&why, masker)),
        AttemptEnd::Rehearsed(what) => AttemptEnd::Rehearsed(masked_words(&what, masker)),
        AttemptEnd::Suspended(gate) => AttemptEnd::Suspended(masked_gate(gate, masker)),
        AttemptEnd::Observed(observation) => AttemptEnd::Observed(match observation {
            Observation::Found(Finding::Applied(what)) => {
                Observation::Found(Finding::Applied(masked_words(&what, masker)))
            }
            Observation::Found(Finding::Failed(why)) => Observation::Found(Finding::Failed(masked_words(&why, masker))),
            Observation::Found(Finding::NotStarted) => Observation::Found(Finding::NotStarted),
            Observation::InProgress => Observation::InProgress,
            Observation::Unknown(why) => Observation::Unknown(masked_words(&why, masker)),
        }),
        AttemptEnd::Unsuccessful(outcome, failure) => {
            AttemptEnd::Unsuccessful(outcome, masked_failure(failure, masker))
        }
    }
}

fn masked_failure(failure: Failure, masker: &Masker) -> Failure {
    Failure {
        message: masked_words(&failure.message, masker),
        causes: failure.causes.iter().take(CAUSES).map(|cause| masked_words(cause, masker)).collect(),
        help: failure.help.map(|help| masked_words(&help, masker)),
        ..failure
    }
}

fn masked_gate(gate: Gate, masker: &Masker) -> Gate {
    let field = |field: Field| Field {
        name: masked_text(&field.name, masker),
        description: masked_words(&field.description, masker),
        ..field
    };
    Gate {
        message: masked_words(&gate.message, masker),
        approvers: gate.approvers.iter().map(|who| masked_text(who, masker)).collect(),
        fields: gate.fields.into_iter().map(field).collect(),
        ..gate
    }
}

/// `problem` with every secret masked.
pub(crate) fn masked_problem(problem: Problem, masker: &Masker) -> Problem {
    Problem {
        level: problem.level,
        code: masked_text(&problem.code, masker),
        message: masked_words(&problem.message, masker),
        path: problem.path.map(|path| masked_text(&path, masker)),
        help: problem.help.map(|help| masked_words(&help, masker)),
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
            artifacts: Vec::new(),
            release: Some(ReleaseNote { artifact: SECRET.into(), url: Some(format!("https://{SECRET}.example.org")) }),
            made: None,
        };
        says(&format!("{:?}", report.end)) && !says(&format!("{:?}", masked(report, &masker)))
    }

    #[test]
    fn what_is_too_long_is_masked_before_it_is_cut() {
        let masker = Masker::default();
        masker.add(SECRET, false);
        let failure = Failure {
            kind: FailureKind::Reported,
            message: format!("{}{SECRET}", "é".repeat(TEXT / 2 - 2)),
            causes: vec![String::new(); 2 * CAUSES],
            help: None,
            retryable: false,
        };
        let failure = masked_failure(failure, &masker);
        assert!(failure.message.ends_with("é***") && failure.causes.len() == CAUSES, "{}", failure.message.len());
        let long = masked_text(&"é".repeat(TEXT), &masker);
        assert!(long.len() < TEXT + 100 && long.ends_with("é (cut here: too long)"));
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
            ..Gate::default()
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
