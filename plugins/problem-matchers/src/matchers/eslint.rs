//! ESLint's default format, and xo's and stylelint's: a line with the path of a file, and below it a row for each problem.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::place::{alone, is_path, number};
use crate::problem::{MatchedProblem, ProblemLevel, SourcePlace};

#[derive(Default)]
pub(crate) struct EslintMatcher {
    /// The file whose rows may follow.
    file: Option<String>,
}

impl Matcher for EslintMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        if let Some(file) = &self.file
            && let Some(problem) = row(line, file)
        {
            collector.add(problem);
            return Claim::Open;
        }
        let text = line.trim();
        let path = alone(text).map_or_else(|| text.to_owned(), |place| place.path);
        self.file = Some(path).filter(|path| is_path(path) && !path.contains(' '));
        Claim::No
    }
}

/// `  1:7  error  message  rule`, `  ✖  1:7  message  rule`, or `  1:7  ✖  message  rule`.
fn row(line: &str, file: &str) -> Option<MatchedProblem> {
    let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    let (place, level, rest) = match cells.as_slice() {
        [first, second, rest @ ..] => match (level(first), level(second)) {
            (Some(level), _) => (*second, level, rest),
            (_, Some(level)) => (*first, level, rest),
            _ => return None,
        },
        _ => return None,
    };
    let (row, column) = place.split_once(':')?;
    let (row, column) = (number(row)?.0, number(column)?.0);
    let (message, rule) = match rest {
        [] => return None,
        // A problem of no rule, such as a syntax error.
        [message] => ((*message).to_owned(), "eslint"),
        [message @ .., rule] => (message.join(" "), *rule),
    };
    Some(MatchedProblem::new(level, rule, &message, Some(SourcePlace::new(file, Some(row), Some(column)))))
}

fn level(cell: &str) -> Option<ProblemLevel> {
    match cell {
        "error" | "✖" | "✘" | "×" => Some(ProblemLevel::Error),
        "warning" | "⚠" | "‼" => Some(ProblemLevel::Warning),
        _ => None,
    }
}
