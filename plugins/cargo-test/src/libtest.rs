//! Reads what `cargo test` prints.
//!
//! Cargo names each executable on standard error; the executable prints its tests to standard output. The two streams
//! arrive apart, so their order tells nothing, but each keeps its own: the n-th executable named is the n-th that
//! prints `running … tests`. (An executable with a harness of its own prints no such line; names of those after it are
//! then off by one, counts are not.)

use std::collections::VecDeque;

use crate::results::{Counts, Results, Suite, Test, Verdict};

#[derive(Default)]
pub(crate) struct Parser {
    /// Named on standard error, not yet begun on standard output.
    announced: VecDeque<String>,
    suites: Vec<Suite>,
    /// Suites whose names weren't known when they began.
    nameless: VecDeque<usize>,
    place: Place,
    done: u32,
    total: u32,
}

/// Where in the output of an executable.
#[derive(Default)]
enum Place {
    #[default]
    Outside,
    Tests,
    /// In the output of the failed test of this index.
    Details(Option<usize>),
    /// In the list of names at the end.
    Names,
}

impl Parser {
    pub(crate) fn stderr(&mut self, line: &str) {
        if let Some(name) = suite_name(line) {
            match self.nameless.pop_front() {
                Some(index) => self.suites[index].name = name,
                None => self.announced.push_back(name),
            }
        }
    }

    pub(crate) fn stdout(&mut self, line: &str) {
        if let Some(count) = running(line) {
            self.begin(count);
        } else if let Some((counts, seconds)) = test_result(line) {
            if let Some(suite) = self.suites.last_mut() {
                (suite.counts, suite.seconds) = (Some(counts), seconds);
            }
            self.place = Place::Outside;
        } else {
            self.inside(line);
        }
    }

    /// Tests done, and how many there are as far as is known.
    pub(crate) fn progress(&self) -> (u32, Option<u32>) {
        (self.done, Some(self.total))
    }

    pub(crate) fn finish(self) -> Results {
        Results { suites: self.suites }
    }

    fn begin(&mut self, count: u32) {
        let name = self.announced.pop_front().unwrap_or_else(|| {
            self.nameless.push_back(self.suites.len());
            String::new()
        });
        self.suites.push(Suite { name, ..Suite::default() });
        self.place = Place::Tests;
        self.total += count;
    }

    fn inside(&mut self, line: &str) {
        let Some(suite) = self.suites.last_mut() else { return };
        match &mut self.place {
            Place::Outside | Place::Names => {}
            Place::Tests if line == "failures:" => self.place = Place::Details(None),
            Place::Tests => {
                if take_test(suite, line) {
                    self.done += 1;
                }
            }
            Place::Details(_) if line == "failures:" => self.place = Place::Names,
            Place::Details(current) => {
                if let Some(name) = details_of(line) {
                    *current = suite.tests.iter().position(|test| test.name == name);
                } else if let Some(index) = *current {
                    suite.tests[index].output.push(line);
                }
            }
        }
    }
}

/// Whether a test came to its end with this line.
fn take_test(suite: &mut Suite, line: &str) -> bool {
    if let Some((name, rest)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
        let verdict = verdict(rest);
        suite.tests.push(Test::new(name, verdict.unwrap_or(Verdict::Unfinished)));
        return verdict.is_some();
    }
    // With `--nocapture`, output stands between a test's name and its verdict.
    let Some(test) = suite.tests.last_mut().filter(|test| test.verdict == Verdict::Unfinished) else { return false };
    match verdict(line) {
        Some(found) => {
            test.verdict = found;
            true
        }
        None => {
            test.output.push(line);
            false
        }
    }
}

/// `ok`, `FAILED`, `ignored, reason`, `bench: …`, each perhaps with a time after it.
fn verdict(text: &str) -> Option<Verdict> {
    let word = text.split([' ', ',', '<']).next()?;
    match word {
        "ok" | "bench:" => Some(Verdict::Passed),
        "FAILED" => Some(Verdict::Failed),
        "ignored" => Some(Verdict::Ignored),
        _ => None,
    }
}

fn running(line: &str) -> Option<u32> {
    let rest = line.strip_prefix("running ")?;
    rest.strip_suffix(" tests").or(rest.strip_suffix(" test"))?.parse().ok()
}

fn details_of(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("---- ")?.strip_suffix(" ----")?;
    Some(rest.strip_suffix(" stdout").or(rest.strip_suffix(" stderr")).unwrap_or(rest))
}

/// `test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`.
fn test_result(line: &str) -> Option<(Counts, f64)> {
    let (_, rest) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    let mut seconds = 0.0;
    for part in rest.split("; ") {
        if let Some(time) = part.strip_prefix("finished in ") {
            seconds = time.strip_suffix('s')?.parse().ok()?;
            continue;
        }
        let (count, what) = part.split_once(' ')?;
        let count: usize = count.parse().ok()?;
        match what {
            "passed" | "measured" => counts.passed += count,
            "failed" => counts.failed = count,
            "ignored" => counts.ignored = count,
            _ => {}
        }
    }
    Some((counts, seconds))
}

/// `Running unittests src/lib.rs (target/debug/deps/app-0123456789abcdef)`, or `Doc-tests app`.
fn suite_name(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name} (doc-tests)"));
    }
    let (what, file) = line.strip_prefix("Running ")?.strip_suffix(')')?.split_once(" (")?;
    let stem = file.rsplit(['/', '\\']).next()?;
    let name = stem.rsplit_once('-').map_or(stem, |(name, _hash)| name);
    Some(format!("{name} ({what})"))
}
