//! The failures of Rust's tests, as libtest and nextest print them, and panics.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::place::alone;
use crate::problem::{FailedTest, MatchedProblem, SourcePlace};
use crate::wording::message_and_details;

#[derive(Default)]
pub(crate) struct RustTestMatcher {
    /// Tells tests of the same name in several executables apart.
    executable: String,
    executables: u32,
    /// The test whose output follows.
    test: Option<String>,
    panic: Option<Panic>,
}

/// A panic whose message isn't complete yet.
struct Panic {
    thread: String,
    place: Option<SourcePlace>,
    message: Vec<String>,
    /// Whether its stack follows.
    in_stack: bool,
}

impl Matcher for RustTestMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        if let Some(claim) = self.continue_panic(line) {
            return claim;
        }
        self.end(collector);
        let text = line.trim_start();
        if let Some(panic) = panic(text) {
            self.panic = Some(panic);
            return Claim::Open;
        }
        if line.starts_with("running ") && (line.ends_with(" test") || line.ends_with(" tests")) {
            self.executables += 1;
            self.executable = self.executables.to_string();
            self.test = None;
            return Claim::No;
        }
        if let Some((executable, name)) = nextest_failure(text) {
            executable.clone_into(&mut self.executable);
            self.test = Some(name.to_owned());
            collector.add_test(self.failed(name));
            return Claim::Line;
        }
        if let Some(name) = text.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            collector.add_test(self.failed(name));
            return Claim::Line;
        }
        if let Some(header) = text.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----")) {
            self.test = header.strip_suffix(" stdout").or(header.strip_suffix(" stderr")).map(str::to_owned);
            return Claim::Line;
        }
        match (&self.test, text.starts_with("Error: ")) {
            // A test that returns an error.
            (Some(name), true) => {
                let mut test = self.failed(name);
                test.because(text);
                collector.add_test(test);
                Claim::Line
            }
            _ => Claim::No,
        }
    }

    fn end(&mut self, collector: &mut Collector) {
        let Some(Panic { thread, place, message, .. }) = self.panic.take() else { return };
        let is_test = thread.contains("::") || self.test.as_ref() == Some(&thread);
        // A thread that the test started has another name, or none.
        let test = if is_test { Some(thread.clone()) } else { self.test.clone() };
        match test {
            Some(name) => collector.add_test(FailedTest { why: message, place, ..self.failed(&name) }),
            None => {
                let (message, details) = message_and_details(&message);
                let message = format!("thread `{thread}` panicked: {message}");
                collector.add(MatchedProblem { details, ..MatchedProblem::error("panic", &message, place) });
            }
        }
    }
}

impl RustTestMatcher {
    fn failed(&self, name: &str) -> FailedTest {
        // A doc-test may be named by its line only: `src/lib.rs - add (line 3)`.
        let name = name.split(" - should panic").next().unwrap_or(name);
        FailedTest { identity: format!("{} {name}", self.executable), ..FailedTest::new(name) }
    }

    /// Adds a line to the panic that is open; none if there is none, or the line isn't part of it.
    fn continue_panic(&mut self, line: &str) -> Option<Claim> {
        let panic = self.panic.as_mut()?;
        let text = line.trim();
        let is_note = text.starts_with("note: run with `RUST_BACKTRACE") || text.starts_with("note: Some details");
        let is_frame =
            text.split(':').next().is_some_and(|number| number.parse::<u32>().is_ok()) || text.starts_with("at ");
        match () {
            () if text.is_empty() => None,
            () if is_note => Some(Claim::Open),
            () if text == "stack backtrace:" => {
                panic.in_stack = true;
                Some(Claim::Open)
            }
            () if panic.in_stack => is_frame.then_some(Claim::Open),
            () if is_new_topic(text) => None,
            () => {
                if panic.message.len() <= MatchedProblem::MOST_DETAILS {
                    panic.message.push(text.to_owned());
                }
                Some(Claim::Open)
            }
        }
    }
}

fn is_new_topic(text: &str) -> bool {
    text.starts_with("thread '") || text.starts_with("test ") || text.starts_with("---- ") || text == "failures:"
}

/// `thread 'tests::bad' (42) panicked at src/lib.rs:14:9:`, or of older compilers `thread 'x' panicked at 'why', a.rs:1:2`.
fn panic(text: &str) -> Option<Panic> {
    let (thread, rest) = text.strip_prefix("thread '")?.split_once('\'')?;
    let (_, rest) = rest.split_once("panicked at ")?;
    let (message, place) = match rest.strip_prefix('\'').and_then(|rest| rest.rsplit_once("', ")) {
        Some((message, place)) => (vec![message.to_owned()], place),
        None => (Vec::new(), rest.trim_end_matches(':')),
    };
    Some(Panic { thread: thread.to_owned(), place: alone(place), message, in_stack: false })
}

/// `FAIL [   0.005s] (2/3) app tests::bad`: the executable and the name of the test. Older versions print no counter.
fn nextest_failure(text: &str) -> Option<(&str, &str)> {
    let (status, rest) = text.split_once(" [")?;
    let (_, rest) = rest.split_once("s] ")?;
    let has_failed = matches!(status, "FAIL" | "TIMEOUT" | "ABORT" | "FAIL + LEAK") || status.starts_with("SIG");
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((_, rest)) => rest.trim_start(),
        None => rest,
    };
    rest.split_once(' ').filter(|_| has_failed)
}
