//! CMake: `CMake Error at CMakeLists.txt:4 (find_package):`, and the message below.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::place::alone;
use crate::problem::{MatchedProblem, ProblemLevel, SourcePlace};
use crate::wording::joined;

#[derive(Default)]
pub(crate) struct CmakeMatcher {
    open: Option<Message>,
}

struct Message {
    level: ProblemLevel,
    place: Option<SourcePlace>,
    lines: Vec<String>,
    /// Whether the first paragraph is complete.
    is_whole: bool,
}

impl Matcher for CmakeMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        if let Some(message) = headline(line) {
            self.end(collector);
            self.open = Some(message);
            return Claim::Open;
        }
        match &mut self.open {
            Some(message) if line.starts_with("  ") || line.trim().is_empty() => {
                message.is_whole |= line.trim().is_empty() && !message.lines.is_empty();
                if !message.is_whole && message.lines.len() < MatchedProblem::MOST_DETAILS {
                    message.lines.push(line.trim().to_owned());
                }
                Claim::Open
            }
            _ => {
                self.end(collector);
                Claim::No
            }
        }
    }

    fn end(&mut self, collector: &mut Collector) {
        let Some(Message { level, place, lines, .. }) = self.open.take() else { return };
        // A paragraph is wrapped to the width of the screen.
        let message = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        collector.add(MatchedProblem::new(level, "cmake", &joined(&[message]), place));
    }
}

fn headline(line: &str) -> Option<Message> {
    let rest = line.strip_prefix("CMake ")?;
    let (level, rest) = match (rest.strip_prefix("Error"), rest.strip_prefix("Warning")) {
        (Some(rest), _) => (ProblemLevel::Error, rest),
        (_, Some(rest)) => (ProblemLevel::Warning, rest),
        _ => return None,
    };
    let rest = rest.strip_prefix(" (dev)").unwrap_or(rest);
    let message = |place, lines| Some(Message { level, place, lines, is_whole: false });
    if let Some(text) = rest.strip_prefix(": ") {
        return message(None, vec![text.to_owned()]);
    }
    let place = rest.strip_prefix(" at ")?.strip_suffix(':')?;
    message(alone(place.split(" (").next().unwrap_or(place)), Vec::new())
}
