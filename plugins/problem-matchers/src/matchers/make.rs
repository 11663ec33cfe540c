//! make: which folder it is in, and which recipe failed.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::place::alone;
use crate::problem::MatchedProblem;

#[derive(Default)]
pub(crate) struct MakeMatcher;

impl Matcher for MakeMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        let Some(message) = message(line) else { return Claim::No };
        if let Some(folder) = quoted(message, "Entering directory ") {
            collector.enter_folder(folder);
            return Claim::No;
        }
        if message.starts_with("Leaving directory ") {
            collector.leave_folder();
            return Claim::No;
        }
        let Some(error) = message.strip_prefix("*** ") else { return Claim::No };
        match error.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((target, status)) => {
                // `Makefile:2: all`; older versions don't name the file.
                let (place, target) =
                    target.rsplit_once(": ").map_or((None, target), |(at, target)| (alone(at), target));
                let problem =
                    MatchedProblem::error("make", &format!("the recipe of `{target}` failed: {status}"), place);
                collector.add_consequence(problem);
            }
            None => collector.add(MatchedProblem::error("make", error, None)),
        }
        Claim::Line
    }
}

/// What follows `make: ` or `make[1]: `.
fn message(line: &str) -> Option<&str> {
    let (program, message) = line.split_once(": ")?;
    let name = program.split('[').next().unwrap_or(program);
    matches!(name.rsplit('/').next(), Some("make" | "gmake")).then_some(message)
}

fn quoted<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.strip_prefix(start)?.strip_prefix(['\'', '`'])?.strip_suffix('\'')
}
