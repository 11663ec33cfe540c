//! Reports what a program printed about its failure: a finding for each error, and the first ones as the causes of the
//! stage's failure.

use problem_matchers::{MatchedProblem, OutputScanner, OutputStream, ProblemLevel, ScannedOutput, SourcePlace};
use stagewright_sdk::process::Source;
use stagewright_sdk::text::count;
use stagewright_sdk::{Finding, Position};

use crate::config::Config;
use crate::source_files::SourceFiles;

/// How many errors are causes of the failure, with what the program printed about each of them.
const CAUSES: usize = 3;
/// The rule of the failures of tests.
const TEST_FAILED: &str = "test-failed";

/// Reads the output of a program.
pub(crate) struct ProblemReader(OutputScanner);

impl ProblemReader {
    pub(crate) fn new(config: &Config) -> ProblemReader {
        ProblemReader(OutputScanner::new(|name| config.matchers.include(name)))
    }

    pub(crate) fn push(&mut self, source: Source, data: &[u8]) {
        let stream = match source {
            Source::Stdout => OutputStream::Stdout,
            Source::Stderr => OutputStream::Stderr,
        };
        self.0.push(stream, data);
    }

    pub(crate) fn finish(self, config: &Config) -> ProblemReport {
        let output = self.0.finish();
        let mut files = SourceFiles::new(config.cwd.as_ref());
        let mut found = |problems: &[MatchedProblem]| {
            problems.iter().map(|problem| FoundProblem::new(problem, &mut files)).collect::<Vec<_>>()
        };
        let (errors, warnings) = (found(&output.errors), found(&output.warnings));
        ProblemReport { errors, warnings, output }
    }
}

/// The problems in the output of a program, with their files in the workspace.
pub(crate) struct ProblemReport {
    errors: Vec<FoundProblem>,
    warnings: Vec<FoundProblem>,
    output: ScannedOutput,
}

struct FoundProblem {
    finding: Finding,
    /// The same with what the program printed about it, line by line.
    cause: Vec<String>,
    /// Whether it is the failure of a test.
    is_test: bool,
}

impl FoundProblem {
    fn new(problem: &MatchedProblem, files: &mut SourceFiles<'_>) -> FoundProblem {
        let MatchedProblem { level, rule, message, place, details } = problem;
        let file = place.as_ref().and_then(|place| files.resolve(place));
        let shown = place.as_ref().map(|place| shown(place, file.as_deref())).unwrap_or_default();
        let is_test = rule == TEST_FAILED;
        let headline = if is_test { format!("{message}{shown}") } else { format!("{rule}: {message}{shown}") };
        // A file that isn't one of the workspace is named by the message.
        let message = if file.is_none() { format!("{message}{shown}") } else { message.clone() };
        let finding = match level {
            ProblemLevel::Error => Finding::error(rule, message),
            ProblemLevel::Warning => Finding::warning(rule, message),
        };
        let position = place.as_ref().and_then(|place| {
            place
                .line
                .filter(|line| *line > 0)
                .map(|line| Position { line, column: place.column.filter(|column| *column > 0) })
        });
        let finding = match file {
            Some(file) => finding.file(file, position),
            None => finding,
        };
        FoundProblem { finding, cause: std::iter::once(headline).chain(details.iter().cloned()).collect(), is_test }
    }
}

/// ` (src/a.c:3:5)`.
fn shown(place: &SourcePlace, file: Option<&str>) -> String {
    let numbers = [place.line, place.column].into_iter().flatten().map(|number| format!(":{number}"));
    format!(" ({}{})", file.unwrap_or(&place.path), numbers.collect::<String>())
}

impl ProblemReport {
    /// The place that the output names for a test.
    pub(crate) fn place_of_test(&self, name: &str) -> Option<(String, Option<Position>)> {
        let names = |message: &str| message.split('`').nth(1).is_some_and(|quoted| quoted.ends_with(name));
        let found = self.errors.iter().find(|problem| problem.is_test && names(&problem.finding.message))?;
        Some((found.finding.file.clone()?, found.finding.range.map(|(start, _)| start)))
    }

    /// Drops the failures of tests, and the excerpt: a report of the runner has them as well.
    pub(crate) fn without_tests(mut self) -> ProblemReport {
        self.errors.retain(|problem| !problem.is_test);
        self.output.excerpt.clear();
        self
    }

    /// Reports the warnings, after a success. What looks like an error isn't one if the program succeeded.
    pub(crate) fn report_warnings(self) {
        let ProblemReport { warnings, output, .. } = self;
        warnings.into_iter().for_each(|problem| problem.finding.report());
        report_more(0, output.more_warnings);
    }

    /// Reports errors and warnings after a failure, and returns its causes: the first errors, and what else looks like the
    /// reason; without errors, an excerpt of the output.
    pub(crate) fn report(self) -> Vec<String> {
        let ProblemReport { errors, warnings, output } = self;
        let mut causes: Vec<String> = errors.iter().take(CAUSES).map(|problem| problem.cause.join("\n")).collect();
        let rest = if output.errors.is_empty() { &output.excerpt } else { &output.aftermath };
        if !rest.is_empty() {
            causes.push(rest.join("\n"));
        }
        errors.into_iter().chain(warnings).for_each(|problem| problem.finding.report());
        report_more(output.more_errors, output.more_warnings);
        causes
    }
}

/// Reports how many problems were left out.
fn report_more(errors: usize, warnings: usize) {
    let parts = [(errors, "error"), (warnings, "warning")];
    let parts = parts.into_iter().filter(|(number, _)| *number > 0).map(|(number, what)| more(number, what));
    let parts = parts.collect::<Vec<_>>();
    if !parts.is_empty() {
        Finding::info("more-problems", format!("{} in the log", parts.join(" and "))).report();
    }
}

/// `1 more error`, `2 more errors`.
fn more(number: usize, what: &str) -> String {
    count(number as u64, &format!("more {what}"))
}
