//! Python's tracebacks, its syntax errors, and the failures that `unittest` prints.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::place::number;
use crate::problem::{FailedTest, MatchedProblem, SourcePlace};
use crate::wording::message_and_details;

#[derive(Default)]
pub(crate) struct PythonMatcher {
    /// The test of `unittest` whose traceback follows.
    test: Option<String>,
    traceback: Option<Traceback>,
}

#[derive(Default)]
struct Traceback {
    place: Option<SourcePlace>,
    /// The exception and its message; empty before them.
    exception: Vec<String>,
    /// Whether its message is complete.
    is_whole: bool,
}

impl Matcher for PythonMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        let begins =
            line.trim_start().starts_with("Traceback (most recent call last):") || line.starts_with("  File \"");
        if self.traceback.is_some() {
            if let Some(claim) = self.continue_traceback(line) {
                return claim;
            }
            self.end(collector);
        }
        if let Some(name) = unittest_failure(line) {
            self.test = Some(name.to_owned());
            return Claim::Open;
        }
        if begins {
            let place = frame(line).filter(|place| !place.is_foreign());
            self.traceback = Some(Traceback { place, ..Traceback::default() });
            return Claim::Open;
        }
        match self.test {
            Some(_) if line.starts_with("----") || line.trim().is_empty() => Claim::Open,
            // The documentation of the test.
            Some(_) if !line.starts_with("Ran ") => Claim::Line,
            _ => Claim::No,
        }
    }

    fn end(&mut self, collector: &mut Collector) {
        let test = self.test.take();
        let Some(Traceback { place, exception, .. }) = self.traceback.take() else { return };
        if exception.is_empty() {
            return;
        }
        if let Some(name) = test {
            return collector.add_test(FailedTest { why: exception, place, ..FailedTest::new(&name) });
        }
        let (message, details) = message_and_details(&exception);
        let name = message.split([':', ' ']).next().unwrap_or_default();
        let exception = name.rsplit('.').next().unwrap_or(name);
        let text = message.split_once(": ").map_or(message.as_str(), |(_, text)| text);
        collector.add(MatchedProblem { details, ..MatchedProblem::error(exception, text, place) });
    }
}

impl PythonMatcher {
    /// Adds a line to the traceback that is open; none if the line isn't part of it.
    fn continue_traceback(&mut self, line: &str) -> Option<Claim> {
        let traceback = self.traceback.as_mut()?;
        let text = line.trim();
        // The exception that was raised last is the one that ended the program; the one before it led to it.
        let continues = text.starts_with("During handling of the above") || text.starts_with("The above exception was");
        if continues || (traceback.is_whole && text.starts_with("Traceback (most recent")) {
            *traceback = Traceback { place: traceback.place.take(), ..Traceback::default() };
            return Some(Claim::Open);
        }
        if text.is_empty() {
            traceback.is_whole = !traceback.exception.is_empty();
            return Some(Claim::Open);
        }
        if traceback.is_whole || text.starts_with("----") || text.starts_with("====") {
            return None;
        }
        if let Some(place) = frame(line) {
            if !place.is_foreign() || traceback.place.is_none() {
                traceback.place = Some(place);
            }
        } else if !line.starts_with(' ') || !traceback.exception.is_empty() {
            if traceback.exception.is_empty() && !is_exception(text) && text != "Traceback (most recent call last):" {
                return None;
            }
            if is_exception(text) || !traceback.exception.is_empty() {
                traceback.exception.truncate(MatchedProblem::MOST_DETAILS);
                traceback.exception.push(text.to_owned());
            }
        }
        Some(Claim::Open)
    }
}

/// `FAIL: test_two (calc.Adds.test_two)`, or `ERROR: …`: the name without the class, which the brackets repeat.
fn unittest_failure(line: &str) -> Option<&str> {
    let name = line.strip_prefix("FAIL: ").or(line.strip_prefix("ERROR: "))?;
    let (_, class) = name.strip_suffix(')')?.split_once(" (")?;
    Some(if class.contains('.') { class } else { name }.trim_start_matches("__main__."))
}

/// `File "/home/me/calc.py", line 3, in add`.
fn frame(line: &str) -> Option<SourcePlace> {
    let (path, rest) = line.trim_start().strip_prefix("File \"")?.split_once("\", line ")?;
    let (line, _) = number(rest)?;
    Some(SourcePlace::new(path, Some(line), None))
}

/// `ValueError: message`, `KeyboardInterrupt`, `requests.exceptions.HTTPError: message`.
fn is_exception(line: &str) -> bool {
    let name = line.split_once(':').map_or(line, |(name, _)| name);
    let name = name.rsplit('.').next().unwrap_or(name);
    name.starts_with(|letter: char| letter.is_ascii_uppercase())
        && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
}
