//! Why a stage failed, each thing once. A plugin may say the same in the causes of its failure, in a finding and in the
//! result of a test, since each has other readers; and the end of the log may say it again. For people, the form with the
//! most details is kept.

use stagewright_engine::{FailureKind, Level, Problem, TestCase};

use crate::measured;
use crate::view::{StageView, TailLine};

/// What is shown of a failed stage, besides the message and the help of its failure.
pub(crate) struct FailureExplanation<'a> {
    /// The causes of its failure.
    pub(crate) causes: Vec<&'a str>,
    /// The tests that failed.
    pub(crate) tests: Vec<&'a TestCase>,
    /// Its findings.
    pub(crate) findings: Vec<&'a Problem>,
    /// The end of its log, unless the rest explains the failure.
    pub(crate) tail: Vec<&'a TailLine>,
}

impl<'a> FailureExplanation<'a> {
    pub(crate) fn of(stage: &'a StageView) -> FailureExplanation<'a> {
        let failure = stage.failure();
        let own =
            stage.problems.iter().filter(|problem| failure.is_none_or(|failure| problem.message != failure.message));
        let (own, tests) = (own.collect::<Vec<_>>(), tests_without_finding(stage, &stage.tests).collect::<Vec<_>>());
        let causes = failure.map(|failure| failure.causes.as_slice()).unwrap_or_default();
        let is_part = |cause: &str| {
            own.iter().any(|problem| mentions(&problem.message, cause) && !tells(cause, problem))
                || tests.iter().any(|case| mentions(&measured::title(case), cause))
        };
        let causes = causes.iter().map(String::as_str).filter(|cause| !is_part(cause)).collect::<Vec<_>>();
        let is_told = |problem: &Problem| causes.iter().any(|cause| tells(cause, problem));
        let findings = own.into_iter().filter(|problem| !is_told(problem)).collect();
        let tail = match failure {
            Some(failure) if failure.kind == FailureKind::Reported && is_explained(stage) => Vec::new(),
            _ => further_tail(stage, &causes),
        };
        FailureExplanation { causes, tests, findings, tail }
    }

    /// Whether the end of the log is complete, or a part of it is already in the causes.
    pub(crate) fn has_whole_tail(&self, stage: &StageView) -> bool {
        self.tail.len() == stage.tail.len()
    }
}

/// The failed tests of `cases` for which the plugin reported no finding.
pub(crate) fn tests_without_finding<'a>(
    stage: &'a StageView,
    cases: &'a [TestCase],
) -> impl Iterator<Item = &'a TestCase> {
    let failed = cases.iter().filter(|case| case.outcome.is_failure());
    failed.filter(|case| {
        let is_about = |problem: &Problem| {
            mentions(&problem.message, &case.name) && (case.suite.is_empty() || problem.message.contains(&case.suite))
        };
        !stage.problems.iter().any(is_about)
    })
}

/// The causes of a stage's failure that neither a finding nor a failed test says.
pub(crate) fn further_causes(stage: &StageView) -> Vec<&str> {
    let mut causes = FailureExplanation::of(stage).causes;
    causes.retain(|cause| !stage.problems.iter().any(|problem| tells(cause, problem)));
    causes
}

/// Whether a cause says all that a finding says.
fn tells(cause: &str, problem: &Problem) -> bool {
    mentions(cause, &problem.message) && problem.path.as_ref().is_none_or(|path| cause.contains(path.as_str()))
}

/// Whether findings or tests say why the plugin failed. A denied permission doesn't: the program may have gone on without
/// it, and failed for another reason.
fn is_explained(stage: &StageView) -> bool {
    let is_reason = |problem: &Problem| problem.level == Level::Error && problem.grant.is_none();
    stage.problems.iter().any(is_reason) || stage.tests.iter().any(|case| case.outcome.is_failure())
}

/// The end of the log, without the lines that the causes repeat.
fn further_tail<'a>(stage: &'a StageView, causes: &[&str]) -> Vec<&'a TailLine> {
    let repeated = |text: &str| causes.iter().flat_map(|cause| cause.lines()).any(|line| line.trim() == text.trim());
    let mut further = stage.tail.iter().filter(|line| !repeated(&line.text)).collect::<Vec<_>>();
    if further.iter().all(|line| line.text.trim().is_empty()) {
        further.clear();
    }
    further
}

/// Whether `text` contains `part`, and not only as the end or the beginning of other words.
fn mentions(text: &str, part: &str) -> bool {
    let is_word = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    let part = part.trim();
    !part.is_empty()
        && text.match_indices(part).any(|(at, _)| {
            let (before, after) = (text[..at].chars().next_back(), text[at + part.len()..].chars().next());
            let glued_before = is_word(before) && is_word(part.chars().next());
            let glued_after = is_word(after) && is_word(part.chars().next_back());
            !glued_before && !glued_after
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_another_word_is_no_mention() {
        for (text, part, expected) in [
            ("test `a::b` of app failed", "a::b", true),
            ("test `data` failed", "a", false),
            ("a data", "a", true),
            ("x", "", false),
            ("(src/a.c:3)", "src/a.c:3", true),
        ] {
            assert_eq!(mentions(text, part), expected, "{text} {part}");
        }
    }
}
