//! The messages of rustc, Cargo and clippy, and of others that quote code in the same way, such as ruff: a headline, and
//! the place below it after an arrow.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::place::alone;
use crate::problem::{MatchedProblem, ProblemLevel, SourcePlace};

#[derive(Default)]
pub(crate) struct RustMatcher {
    /// The line before this one.
    previous: String,
    open: Option<MatchedProblem>,
}

impl Matcher for RustMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        let previous = std::mem::replace(&mut self.previous, line.to_owned());
        if let Some(problem) = &mut self.open {
            if !line.trim().is_empty() {
                // The first line of code is preceded by an empty one.
                if line.trim() != "|" || !problem.details.is_empty() {
                    problem.detail(line);
                }
                return Claim::Open;
            }
            self.end(collector);
            return Claim::Line;
        }
        let place = line.trim_start().strip_prefix("--> ").and_then(alone);
        self.open = place.and_then(|place| headline(&previous, place)).map(|problem| collector.located(problem));
        if self.open.is_some() { Claim::Open } else { Claim::No }
    }

    fn end(&mut self, collector: &mut Collector) {
        self.open.take().into_iter().for_each(|problem| collector.add(problem));
    }
}

/// `error[E0308]: mismatched types`, `warning: unused variable`, `F401 [*] unused import`, `invalid-syntax: message`.
fn headline(line: &str, place: SourcePlace) -> Option<MatchedProblem> {
    let line = line.trim();
    for (word, level) in [("error", ProblemLevel::Error), ("warning", ProblemLevel::Warning)] {
        let Some(rest) = line.strip_prefix(word) else { continue };
        let (code, message) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once("]: ")?,
            None => ("rust", rest.strip_prefix(": ")?),
        };
        return Some(MatchedProblem::new(level, code, message, Some(place)));
    }
    let (code, message) = line.split_once(' ')?;
    let is_code = code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-:".contains(&byte));
    let looks_like_rule = code.ends_with(':') || code.bytes().any(|byte| byte.is_ascii_digit());
    (is_code && looks_like_rule).then(|| {
        let message = message.strip_prefix("[*] ").unwrap_or(message);
        MatchedProblem::error(code.trim_end_matches(':'), message, Some(place))
    })
}
