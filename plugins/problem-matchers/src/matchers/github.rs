//! Commands for GitHub's runner, which linters print in its jobs: `::error file=a.js,line=10,col=5,title=x::message`.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::problem::{MatchedProblem, ProblemLevel, SourcePlace};

pub(crate) struct GithubMatcher;

impl Matcher for GithubMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        match command(line.trim_start()) {
            Some(problem) => {
                collector.add(problem);
                Claim::Line
            }
            None => Claim::No,
        }
    }
}

fn command(line: &str) -> Option<MatchedProblem> {
    let (head, message) = line.strip_prefix("::")?.split_once("::")?;
    let (command, properties) = head.split_once(' ').unwrap_or((head, ""));
    let level = match command {
        "error" => ProblemLevel::Error,
        "warning" => ProblemLevel::Warning,
        _ => return None,
    };
    let property = |name: &str| {
        let mut pairs = properties.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| decoded(value)).filter(|value| !value.is_empty())
    };
    let number = |name: &str| property(name)?.parse().ok().filter(|&number| number > 0);
    let place = property("file").map(|path| SourcePlace::new(&path, number("line"), number("col")));
    let message = decoded(message);
    let (first, details) = message.split_once('\n').unwrap_or((&message, ""));
    let rule = property("title").unwrap_or_else(|| "github".to_owned());
    let mut problem = MatchedProblem::new(level, &rule, first, place);
    details.lines().for_each(|line| problem.detail(line));
    Some(problem)
}

/// The text without the escapes of the command.
fn decoded(text: &str) -> String {
    let text = text.replace("%0D", "").replace("%0A", "\n").replace("%3A", ":").replace("%2C", ",");
    text.replace("%25", "%")
}
