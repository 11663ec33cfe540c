//! Jest: a block for each failure below `●`.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::place::stack_frame;
use crate::problem::{FailedTest, SourcePlace};

#[derive(Default)]
pub(crate) struct JestMatcher {
    /// The file whose failures follow.
    file: Option<String>,
    failure: Option<Failure>,
}

struct Failure {
    test: FailedTest,
    /// The file of the test.
    file: String,
    part: Part,
    /// Whether it is the file that failed, and not a test.
    is_file: bool,
}

#[derive(PartialEq, Eq)]
enum Part {
    Message,
    Code,
    Stack,
}

impl Matcher for JestMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        if let Some(path) = line.strip_prefix("FAIL ") {
            self.end(collector);
            // A duration may follow, and a name of the project may come before.
            let words = path.split_whitespace();
            self.file =
                words.filter(|word| word.contains(['.', '/'])).find(|word| !word.starts_with('(')).map(str::to_owned);
            return Claim::Open;
        }
        if self.file.is_none() {
            return Claim::No;
        }
        if let Some(name) = line.strip_prefix("  ● ") {
            self.end(collector);
            self.begin(name.trim());
            return Claim::Open;
        }
        let is_over = !line.starts_with(' ') && !line.trim().is_empty();
        match &mut self.failure {
            _ if is_over => {
                self.end(collector);
                self.file = None;
                Claim::No
            }
            Some(failure) => {
                failure.line(line);
                Claim::Open
            }
            None => Claim::Open,
        }
    }

    fn end(&mut self, collector: &mut Collector) {
        let Some(Failure { mut test, file, is_file, .. }) = self.failure.take() else { return };
        if is_file {
            // A long explanation precedes what happened.
            let cause =
                test.why.iter().find(|line| line.contains("Error: ") || line.starts_with("Cannot find")).cloned();
            test.why = cause.map_or_else(|| test.why.into_iter().take(1).collect(), |cause| vec![cause]);
            test.place.get_or_insert_with(|| SourcePlace::of_file(&file));
        }
        collector.add_test(test);
    }
}

impl JestMatcher {
    fn begin(&mut self, name: &str) {
        let Some(file) = &self.file else { return };
        // `● Console` has what the tests printed.
        if name == "Console" {
            return;
        }
        let is_file = name == "Test suite failed to run";
        let mut test = FailedTest::new(if is_file { file } else { name });
        test.identity = format!("{file} {name}");
        self.failure = Some(Failure { test, file: file.clone(), part: Part::Message, is_file });
    }
}

impl Failure {
    fn line(&mut self, line: &str) {
        let text = line.trim();
        if let Some(place) = stack_frame(line).filter(|place| !place.is_foreign()) {
            self.part = Part::Stack;
            self.pass_through(place);
        } else if text.starts_with("at ") {
            self.part = Part::Stack;
        } else if self.part == Part::Message && is_code(text) {
            self.part = Part::Code;
        } else if self.part == Part::Message {
            // The reason why a file can't be run is at the end of many lines.
            if self.is_file && !text.is_empty() {
                self.test.why.truncate(MOST_LINES);
                self.test.why.push(text.to_owned());
            } else {
                self.test.because(text.split(" // ").next().unwrap_or(text));
            }
        }
    }

    /// The place is the test's own line, where the stack has it: what the test calls may have thrown the error.
    fn pass_through(&mut self, place: SourcePlace) {
        let is_own = |place: &SourcePlace| place.path == self.file;
        if self.test.place.as_ref().is_none_or(|known| is_own(&place) && !is_own(known)) {
            self.test.place = Some(place);
        }
    }
}

/// The most lines that are kept of an explanation.
const MOST_LINES: usize = 40;

/// A line of code: `> 5 | expect(…)`.
fn is_code(text: &str) -> bool {
    let text = text.trim_start_matches('>').trim_start();
    text.split_once('|').is_some_and(|(number, _)| number.trim().parse::<u32>().is_ok())
}
