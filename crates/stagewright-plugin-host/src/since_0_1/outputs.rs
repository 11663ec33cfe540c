//! `outputs`.

use stagewright_engine::{Level, Problem, TextRange};

use super::stagewright::stage::outputs::Host;
use super::stagewright::stage::types::{Diagnostic, Severity};
use crate::attempt::Attempt;
use crate::call::CallResult;

/// Converts a guest's diagnostic about its `with` table.
pub(super) fn config_problem(diagnostic: Diagnostic) -> Problem {
    let Diagnostic { severity, code, message, path, help } = diagnostic;
    let level = match severity {
        Severity::Error => Level::Error,
        Severity::Warning => Level::Warning,
        Severity::Info => Level::Info,
    };
    Problem { path, help, ..Problem::new(level, code, message) }
}

/// Converts a guest's finding. This version of the contract has no lines, so that guests write them as many programs do,
/// `:LINE:COLUMN` after the file's name: in the path, or else in the message.
fn finding(diagnostic: Diagnostic) -> Problem {
    let mut problem = config_problem(diagnostic);
    if let Some(path) = &mut problem.path {
        let (end, own) = split_numbers(path);
        path.truncate(end);
        let mentions = problem.message.match_indices(path.as_str()).map(|(start, _)| &problem.message[start + end..]);
        problem.range = own.or_else(|| mentions.filter_map(leading_numbers).find_map(|(range, _)| range));
    }
    problem
}

/// The length of the file's name in `src/lib.rs:8:5`, and the place after it.
fn split_numbers(path: &str) -> (usize, Option<TextRange>) {
    let colons = path.match_indices(':').map(|(at, _)| at).filter(|at| *at > 0);
    let mut places = colons.filter_map(|at| {
        let (range, rest) = leading_numbers(&path[at..])?;
        rest.is_empty().then_some((at, range))
    });
    places.next().unwrap_or((path.len(), None))
}

/// Parses `:8` or `:8:5`, and returns the rest of the text. There is no range for line 0, which some programs write for a
/// whole file.
fn leading_numbers(text: &str) -> Option<(Option<TextRange>, &str)> {
    let (line, rest) = number(text)?;
    let (column, rest) = number(rest).map_or((None, rest), |(column, rest)| (Some(column), rest));
    let column = column.filter(|column| *column > 0);
    let range = TextRange { line, column, end_line: None, end_column: None };
    Some(((line > 0).then_some(range), rest))
}

fn number(text: &str) -> Option<(u32, &str)> {
    let digits = text.strip_prefix(':')?;
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    Some((digits[..end].parse().ok()?, &digits[end..]))
}

impl Host for Attempt {
    async fn set(&mut self, name: String, value: String) -> CallResult<()> {
        Ok(self.outputs.set(&name, &value, self.log.masker())?)
    }

    async fn summary(&mut self, markdown: String) -> wasmtime::Result<()> {
        if let Some(markdown) = self.outputs.admit_summary(&markdown, self.log.masker()) {
            self.log.summary(markdown).await;
        }
        Ok(())
    }

    async fn report(&mut self, diagnostic: Diagnostic) -> wasmtime::Result<()> {
        self.findings.report(finding(diagnostic)).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_from_the_path_or_else_from_the_message() {
        let found = |path: &str, message: &str| {
            let (path, message, code) = (Some(path.to_owned()), message.to_owned(), String::new());
            let problem = finding(Diagnostic { severity: Severity::Error, code, message, path, help: None });
            (problem.path.unwrap(), problem.range.map(|range| (range.line, range.column)))
        };
        let at = |line, column| ("src/lib.rs".to_owned(), Some((line, column)));
        assert_eq!(found("src/lib.rs", "it failed (src/lib.rs:8:51)"), at(8, Some(51)));
        assert_eq!(found("src/lib.rs", "it failed at src/lib.rs:8: no"), at(8, None));
        assert_eq!(found("src/lib.rs:3", "of src/lib.rs:8"), at(3, None));
        assert_eq!(found("src/lib.rs:3:1", ""), at(3, Some(1)));
        assert_eq!(found("src/lib.rs:3:0", ""), at(3, None));
        for (path, message) in [("src/lib.rs:0:3", "x"), ("src/lib.rs", "src/lib.rs is wrong, and src/lib.rs:0")] {
            assert_eq!(found(path, message), ("src/lib.rs".to_owned(), None));
        }
        assert_eq!(found("with.run", "at 5:3"), ("with.run".to_owned(), None));
        assert_eq!(found("a:b", ""), ("a:b".to_owned(), None));
    }
}
