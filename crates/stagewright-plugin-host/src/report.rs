//! Masks the report of an attempt, as the last step before the journal and the people who read it.
//!
//! Every text is masked here even if it was masked before: a secret that was requested later, or by another stage, may
//! be in a text that was recorded when it wasn't known yet.

use std::borrow::Cow;
use std::collections::BTreeMap;

use stagewright_engine::{
    AttemptEnd, AttemptReport, Drift, Failure, Field, FilePlace, Finding, Gate, Observation, Problem, ReleaseNote, Wait,
};
use stagewright_model::{MissingGrant, moves_cursor, terminal_text};

use crate::mask::Masker;

/// The most bytes of one text. Unlike the log, a report is journalled, kept in memory and shown as a whole.
const TEXT: usize = 64 * 1024;
/// The most bytes of a text that are looked at. Masking takes several passes over it, and a guest can report texts of
/// megabytes faster than the host masks them.
const MASKED: usize = 1024 * 1024;
/// The most causes of one failure; the nearest are kept.
const CAUSES: usize = 100;

/// `text` with every secret masked, and then truncated. The order matters: half of a secret would not be recognised.
pub(crate) fn masked_text(text: &str, masker: &Masker) -> String {
    match text.len() > MASKED {
        true => truncated(masker.beginning(text, MASKED), true),
        false => truncated(masker.text(text), false),
    }
}

/// `is_beginning`: whether the text has lost its end already.
fn truncated(mut text: String, is_beginning: bool) -> String {
    if is_beginning || text.len() > TEXT {
        text.truncate(text.floor_char_boundary(TEXT));
        text.push_str(" (truncated)");
    }
    text
}

/// [`masked_text`] for text that only people read, often a program's own output: also without the characters that a
/// terminal would act on.
pub(crate) fn masked_words(text: &str, masker: &Masker) -> String {
    // A terminal that moves its cursor can hide a secret, by overwriting a part of it, or assemble one from parts. So the
    // text is masked as it was written, then each line without its cursor movements, and `masked_text` masks once more
    // what a terminal would finally show.
    let is_beginning = text.len() > MASKED;
    let text = if is_beginning { masker.beginning(text, MASKED) } else { masker.text(text) };
    let lines = text.split('\n').map(|line| match secret_across_cursor_moves(line, masker) {
        Some(masked) => Cow::Owned(masked),
        None => Cow::Borrowed(line),
    });
    truncated(masker.text(&terminal_text(&lines.collect::<Vec<_>>().join("\n"))), is_beginning)
}

/// The line without its cursor movements, and masked, if a secret appears once they are left out. None otherwise. Showing
/// the line as a terminal would could leave a part of that secret visible.
pub(crate) fn secret_across_cursor_moves(text: &str, masker: &Masker) -> Option<String> {
    let written: String = text.chars().filter(|&character| !moves_cursor(character)).collect();
    let masked = masker.text(&written);
    (masked != written).then_some(masked)
}

/// `report` with every secret masked.
pub(crate) fn masked(report: AttemptReport, masker: &Masker) -> AttemptReport {
    let AttemptReport { end, outputs, artifacts, release, made, read_history } = report;
    let text = |text: String| masked_text(&text, masker);
    let outputs = outputs.into_iter().map(|(name, value)| (text(name), masker.json(&value)));
    let release = release.map(|ReleaseNote { artifact, url, parts }| ReleaseNote {
        artifact: text(artifact),
        url: url.map(text),
        // They are compared as a whole, and have a limit of their own.
        parts: parts.into_iter().map(|(name, part)| (text(name), masker.text(&part))).collect(),
    });
    let outputs = outputs.collect::<BTreeMap<_, _>>();
    AttemptReport { end: masked_end(end, masker), outputs, artifacts, release, made, read_history }
}

fn masked_end(end: AttemptEnd, masker: &Masker) -> AttemptEnd {
    match end {
        AttemptEnd::Succeeded => AttemptEnd::Succeeded,
        AttemptEnd::Skipped(why) => AttemptEnd::Skipped(masked_words(&why, masker)),
        AttemptEnd::Rehearsed(what) => AttemptEnd::Rehearsed(masked_words(&what, masker)),
        AttemptEnd::Suspended(gate) => AttemptEnd::Suspended(masked_gate(gate, masker)),
        AttemptEnd::Waiting(Wait { token, reason, poll_after, expires }) => AttemptEnd::Waiting(Wait {
            token: masked_text(&token, masker),
            reason: masked_words(&reason, masker),
            poll_after,
            expires,
        }),
        AttemptEnd::Observed(observation) => AttemptEnd::Observed(match observation {
            Observation::Found(Finding::Applied(what)) => {
                Observation::Found(Finding::Applied(masked_words(&what, masker)))
            }
            Observation::Found(Finding::Failed(why)) => Observation::Found(Finding::Failed(masked_words(&why, masker))),
            Observation::Found(Finding::NotStarted) => Observation::Found(Finding::NotStarted),
            Observation::InProgress => Observation::InProgress,
            Observation::Unknown(why) => Observation::Unknown(masked_words(&why, masker)),
        }),
        AttemptEnd::Compared(differences) => {
            let text = |text: String| masked_words(&text, masker);
            let masked = |Drift { what, expected, found }| Drift {
                what: text(what),
                expected: expected.map(text),
                found: found.map(text),
            };
            AttemptEnd::Compared(differences.into_iter().map(masked).collect())
        }
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
        place: failure.place.map(|place| Box::new(FilePlace { path: masked_text(&place.path, masker), ..*place })),
        ..failure
    }
}

fn masked_gate(gate: Gate, masker: &Masker) -> Gate {
    let field = |field: Field| Field {
        name: masked_text(&field.name, masker),
        description: masked_words(&field.description, masker),
        choices: field.choices.iter().map(|choice| masked_text(choice, masker)).collect(),
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
        path: problem.path.map(|path| masked_text(&path, masker)),
        range: problem.range,
        help: problem.help.map(|help| masked_words(&help, masker)),
        suggestion: problem.suggestion.map(|text| masked_text(&text, masker)),
        fingerprint: problem.fingerprint.map(|text| masked_text(&text, masker)),
        grant: problem.grant.map(|grant| {
            let entry = masked_text(&grant.entry, masker);
            Box::new(MissingGrant { entry, ..*grant })
        }),
        ..Problem::new(problem.level, masked_text(&problem.code, masker), masked_words(&problem.message, masker))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stagewright_engine::{FailureKind, FieldKind, GateKind, Outcome, Timestamp};

    use super::*;

    const SECRET: &str = "hunter22";

    /// Whether `end` holds the secret, and the masked report doesn't.
    fn is_hidden(end: AttemptEnd) -> bool {
        let masker = Masker::default();
        masker.add(SECRET, true);
        let says = |text: &str| text.contains(SECRET);
        let report = AttemptReport {
            end,
            outputs: BTreeMap::from([(format!("{SECRET}-a"), json!({ SECRET: [SECRET] }))]),
            artifacts: Vec::new(),
            release: Some(ReleaseNote {
                artifact: SECRET.into(),
                url: Some(format!("https://{SECRET}.example.org")),
                parts: BTreeMap::from([("service/web".into(), format!("password: {SECRET}"))]),
            }),
            made: None,
            read_history: false,
        };
        says(&format!("{:?}", report.end)) && !says(&format!("{:?}", masked(report, &masker)))
    }

    #[test]
    fn a_long_text_is_masked_before_it_is_truncated() {
        let masker = Masker::default();
        masker.add(SECRET, false);
        let failure = Failure {
            causes: vec![String::new(); 2 * CAUSES],
            ..Failure::new(FailureKind::Reported, format!("{}{SECRET}", "é".repeat(TEXT / 2 - 2)), false)
        };
        let failure = masked_failure(failure, &masker);
        assert!(failure.message.ends_with("é***") && failure.causes.len() == CAUSES, "{}", failure.message.len());
        let long = masked_text(&"é".repeat(TEXT), &masker);
        assert!(long.len() < TEXT + 100 && long.ends_with("é (truncated)"));
    }

    #[test]
    fn a_secret_at_the_end_of_what_is_masked_is_not_shown_in_part() {
        let masker = Masker::default();
        masker.add(SECRET, false);
        // Invisible characters are left out, so that the end of what is masked isn't beyond the end of what is shown.
        for inside in 0..=SECRET.len() {
            let before = MASKED - inside;
            let (invisible, plain) = ("\u{200b}".repeat(before / 3), "y".repeat(before % 3));
            let text = format!("{invisible}{plain}{SECRET}{}", "y".repeat(MASKED));
            for masked in [masked_text, masked_words] {
                let shown = masked(&text, &masker);
                assert!(!shown.contains(&SECRET[..1]) && shown.ends_with(" (truncated)"), "{inside}: {shown}");
            }
        }
    }

    #[test]
    fn every_text_of_an_attempts_end_is_masked() {
        let failure = Failure {
            causes: vec![SECRET.into()],
            help: Some(SECRET.into()),
            ..Failure::new(FailureKind::Reported, SECRET, true)
        };
        let field = Field {
            name: SECRET.into(),
            kind: FieldKind::Text,
            description: SECRET.into(),
            required: true,
            choices: vec![SECRET.into()],
        };
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
            AttemptEnd::Waiting(Wait { token: SECRET.into(), reason: SECRET.into(), poll_after: None, expires: None }),
            AttemptEnd::Observed(Observation::Unknown(SECRET.into())),
            AttemptEnd::Observed(Observation::Found(Finding::Applied(SECRET.into()))),
            AttemptEnd::Observed(Observation::Found(Finding::Failed(SECRET.into()))),
            AttemptEnd::Compared(vec![Drift { what: SECRET.into(), expected: None, found: None }]),
            AttemptEnd::Compared(vec![Drift {
                what: String::new(),
                expected: Some(SECRET.into()),
                found: Some(SECRET.into()),
            }]),
        ] {
            assert!(is_hidden(end.clone()), "{end:?}");
        }
    }
}
