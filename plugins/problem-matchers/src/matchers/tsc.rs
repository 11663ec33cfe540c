//! The TypeScript compiler, plain and with `--pretty`; also others that write a place as `path(line,column)`.

use crate::place::{at_start, is_path, number};
use crate::problem::{MatchedProblem, ProblemLevel, SourcePlace};

/// The problem that a line begins.
pub(crate) fn head(line: &str) -> Option<MatchedProblem> {
    plain(line).or_else(|| pretty(line))
}

/// The types that don't fit are below, each indented more than the one before.
pub(crate) fn is_continuation(line: &str) -> bool {
    line.starts_with("  ") && !line.trim().is_empty()
}

/// `esl/b.ts(1,7): error TS2322: message`.
fn plain(line: &str) -> Option<MatchedProblem> {
    let (place, rest) = line.split_once("): ")?;
    let (path, numbers) = place.rsplit_once('(')?;
    let (line, column) = numbers.split_once(',').unwrap_or((numbers, ""));
    let place = SourcePlace::new(path.trim(), Some(number(line)?.0), number(column).map(|(column, _)| column));
    coded(rest, place).filter(|_| is_path(path.trim()))
}

/// `esl/b.ts:1:7 - error TS2322: message`.
fn pretty(line: &str) -> Option<MatchedProblem> {
    let (place, rest) = line.split_once(" - ")?;
    let text = format!("{place}:");
    let (place, _) = at_start(&text)?;
    coded(rest, place)
}

/// `error TS2322: message`.
fn coded(text: &str, place: SourcePlace) -> Option<MatchedProblem> {
    let (level, rest) = text.split_once(' ')?;
    let level = match level {
        "error" => ProblemLevel::Error,
        "warning" => ProblemLevel::Warning,
        _ => return None,
    };
    let (code, message) = rest.split_once(": ")?;
    let is_code = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_code.then(|| MatchedProblem::new(level, code, message, Some(place)))
}
