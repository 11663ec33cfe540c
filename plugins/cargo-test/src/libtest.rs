//! Parses the output of `cargo test`.
//!
//! Cargo names each executable on standard error, and reports there which of them failed. The executables print their tests
//! to standard output. The two streams aren't synchronised, but each is in order: the n-th executable that Cargo names is
//! the n-th that prints `running … tests`, unless one has a test harness of its own.
//!
//! With `--nocapture` the tests' output is between the lines of the runner, and may look like them. So the lines are
//! interpreted at the end, based on what a test can't forge: Cargo's exit status, totals that match the number in
//! `running … tests`, and the list of failed tests right before the totals. An executable that passed according to Cargo
//! has no failed tests, whatever it printed.

use crate::results::{Counts, DOC_TESTS, Results, Suite};

mod report;

use report::{Report, is_glued_pass, verdict};

/// How many consecutive lines of a test's output are kept. The rest is dropped, which bounds the memory for a test that
/// prints a lot.
const OUTPUT_IN_A_ROW: usize = 200;

#[derive(Default)]
pub(crate) struct Parser {
    /// In the order of Cargo's output.
    executables: Vec<Executable>,
    /// Lines of standard output.
    lines: Vec<String>,
    output_in_a_row: usize,
    done: u64,
    total: u64,
}

/// What Cargo reported about an executable.
struct Executable {
    name: String,
    failed: bool,
    /// Whether it ended with something else than the exit code of failed tests.
    crashed: bool,
}

/// What is known about an executable before its output is parsed.
#[derive(Clone, Copy)]
struct Expected {
    /// None when it is unknown.
    failed: Option<bool>,
    /// Whether it is certain to have printed its totals. Then a second `running … tests` before them is a test's output.
    is_whole: bool,
}

impl Parser {
    pub(crate) fn stderr(&mut self, line: &str) {
        if let Some(name) = suite_name(line) {
            self.executables.push(Executable { name, failed: false, crashed: false });
        } else if let Some(last) = self.executables.last_mut() {
            let words = line.trim_start();
            last.failed |= ["error: test failed, to rerun", "error: doctest failed, to rerun"]
                .iter()
                .any(|start| words.starts_with(start));
            last.crashed |=
                words.starts_with("process didn't exit successfully: ") && !words.ends_with("(exit status: 101)");
        }
    }

    pub(crate) fn stdout(&mut self, line: &str) {
        if let Some(count) = running(line) {
            self.total = self.total.saturating_add(count as u64);
        } else if test_line(line).is_some_and(|(_, rest)| verdict(rest).is_some()) {
            self.done += 1;
        }
        self.output_in_a_row = if may_be_the_runners(line) { 0 } else { self.output_in_a_row + 1 };
        if self.output_in_a_row <= OUTPUT_IN_A_ROW {
            self.lines.push(line.to_owned());
        }
    }

    /// Whether Cargo has named an executable yet.
    pub(crate) fn has_begun(&self) -> bool {
        !self.executables.is_empty()
    }

    /// The number of tests that ended, and of all tests known so far.
    pub(crate) fn progress(&self) -> (u64, Option<u64>) {
        (self.done, Some(self.total.max(self.done)))
    }

    /// `succeeded`: whether Cargo's exit status was success.
    pub(crate) fn finish(self, succeeded: bool) -> Results {
        let strict = self.read(|index| match self.executables.get(index) {
            _ if succeeded => Expected { failed: Some(false), is_whole: true },
            Some(executable) => Expected { failed: Some(executable.failed), is_whole: !executable.crashed },
            None => Expected { failed: None, is_whole: false },
        });
        let mut suites = if self.agrees(&strict, succeeded) {
            strict
        } else {
            // Cargo's lines and the executables' output can't be matched: an executable has a test harness of its own,
            // a test called `exit`, or a test printed lines that look like Cargo's. Parse again without relying on
            // Cargo's lines, except that after a success of Cargo no test has failed.
            let failed = succeeded.then_some(false);
            self.read(|_| Expected { failed, is_whole: false })
        };
        for (suite, executable) in suites.iter_mut().zip(&self.executables) {
            suite.name.clone_from(&executable.name);
        }
        Results { suites }
    }

    /// Whether the parsed suites match what Cargo reported about the executables.
    fn agrees(&self, suites: &[Suite], succeeded: bool) -> bool {
        if succeeded {
            return !suites.iter().any(Suite::is_broken);
        }
        let has_failed = |suite: &Suite| suite.counts.is_none_or(|counts| counts.failed > 0);
        suites.len() == self.executables.len()
            && suites.iter().zip(&self.executables).all(|(suite, known)| has_failed(suite) == known.failed)
    }

    fn read(&self, expected: impl Fn(usize) -> Expected) -> Vec<Suite> {
        let (mut suites, mut open): (Vec<Suite>, Option<Report<'_>>) = (Vec::new(), None);
        for line in &self.lines {
            let now = expected(suites.len());
            let result = test_result(line);
            if let Some(total) = running(line)
                && (open.is_none() || !now.is_whole)
            {
                suites.extend(open.take().map(Report::broken));
                open = Some(Report::new(total));
            } else if let Some((counts, seconds)) = result
                && let Some(report) = open.take_if(|report| report.fits(counts, now.failed))
            {
                suites.push(report.ended(counts, seconds));
            } else if let Some(report) = &mut open {
                report.push(line);
            }
        }
        suites.extend(open.map(Report::broken));
        suites
    }
}

/// Whether a line may be the runner's. Otherwise it is a test's output.
fn may_be_the_runners(line: &str) -> bool {
    running(line).is_some()
        || test_result(line).is_some()
        || test_line(line).is_some()
        || verdict(line).is_some()
        || is_glued_pass(line)
        || details_of(line).is_some()
        || line == "failures:"
        || line.starts_with("    ")
}

/// `test NAME ... REST`.
fn test_line(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ")?.split_once(" ... ")
}

fn running(line: &str) -> Option<usize> {
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
        return Some(format!("{name}{DOC_TESTS}"));
    }
    let (what, file) = line.strip_prefix("Running ")?.strip_suffix(')')?.split_once(" (")?;
    let stem = file.rsplit(['/', '\\']).next()?;
    let name = stem.rsplit_once('-').map_or(stem, |(name, _hash)| name);
    Some(format!("{name} ({what})"))
}
