//! Parses the output of `cargo nextest run`, which is all on standard error.
//!
//! The tests' output may be between its lines and look like them. So the result is based on what a test can't forge:
//! nextest's exit status, and its last summary, with the list of failed tests after it.

use std::collections::{BTreeMap, BTreeSet};

use crate::results::{Counts, Output, Results, Suite, Test, Verdict};

#[derive(Default)]
pub(crate) struct Parser {
    /// In the order of their first line.
    suites: Vec<Suite>,
    by_name: BTreeMap<(String, String), (usize, usize)>,
    /// The failed test whose output is being printed.
    current: Option<(usize, usize)>,
    summary: Option<(Counts, f64)>,
    /// Tests for which any line reported a pass.
    passed: BTreeSet<(usize, usize)>,
    /// Tests that were reported as failed after the last summary.
    listed: BTreeSet<(usize, usize)>,
    done: u64,
    total: Option<u64>,
}

impl Parser {
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(summary) = summary(line) {
            self.summary = Some(summary);
            self.current = None;
            self.listed.clear();
        } else if let Some(total) = starting(line) {
            self.total = Some(total);
        } else if let Some((status, seconds, suite, test)) = status_line(line) {
            self.record(&status, seconds, suite, test);
        } else if let Some((suite, test)) = self.current {
            if line.starts_with("error: ") || is_rule(line) {
                self.current = None;
            } else {
                let line = line.strip_prefix("    ").unwrap_or(line);
                self.suites[suite].tests[test].output.push(line);
            }
        }
    }

    /// The number of tests that ended, and of all tests once that is known.
    pub(crate) fn progress(&self) -> (u64, Option<u64>) {
        (self.done, self.total)
    }

    /// `succeeded`: whether nextest's exit status was success. Nextest prints one summary for all suites: tests that it
    /// counted without naming them are added to the first suite.
    pub(crate) fn finish(mut self, succeeded: bool) -> Results {
        self.drop_forged(succeeded);
        let Some((mut counts, seconds)) = self.summary else { return Results { suites: self.suites } };
        if succeeded {
            counts.failed = 0;
        }
        for suite in &mut self.suites {
            suite.counts = Some(named(suite));
        }
        let sum = |of: fn(&Counts) -> usize| -> usize {
            self.suites.iter().filter_map(|suite| suite.counts.as_ref()).map(of).sum()
        };
        let missing = Counts {
            passed: counts.passed.saturating_sub(sum(|counts| counts.passed)),
            failed: counts.failed.saturating_sub(sum(|counts| counts.failed)),
            ignored: counts.ignored.saturating_sub(sum(|counts| counts.ignored)),
        };
        if self.suites.is_empty() {
            self.suites.push(Suite { name: "nextest".to_owned(), counts: Some(Counts::default()), ..Suite::default() });
        }
        let first = &mut self.suites[0];
        first.seconds = seconds;
        if let Some(counts) = &mut first.counts {
            counts.passed += missing.passed;
            counts.failed += missing.failed;
            counts.ignored += missing.ignored;
        }
        Results { suites: self.suites }
    }

    /// Drops failures that were only in the tests' output.
    fn drop_forged(&mut self, succeeded: bool) {
        let is_listed = self.summary.is_some_and(|(counts, _)| counts.failed == self.listed.len());
        if !succeeded && !is_listed {
            return;
        }
        for (suite_index, suite) in self.suites.iter_mut().enumerate() {
            let mut index = 0;
            suite.tests.retain_mut(|test| {
                let place = (suite_index, index);
                index += 1;
                let is_forged = test.is_failed() && (succeeded || !self.listed.contains(&place));
                if is_forged {
                    test.verdict = Verdict::Passed;
                }
                !is_forged || self.passed.contains(&place)
            });
        }
        self.suites.retain(|suite| !suite.tests.is_empty());
    }

    fn record(&mut self, status: &str, seconds: Option<f64>, suite: &str, test: &str) {
        let verdict = match status {
            "PASS" | "LEAK" => Verdict::Passed,
            "SKIP" => Verdict::Ignored,
            // `FLAKY 2/3`: a retry passed.
            _ if status.starts_with("FLAKY") => Verdict::Passed,
            // `TRY 1 PASS`, `SLOW`: the test's result follows on another line.
            _ if status.starts_with("TRY") && status.ends_with("PASS") => return,
            "START" | "SLOW" | "SETUP" | "TERMINATING" => return,
            // `FAIL`, `TIMEOUT`, `ABORT`, `SIGSEGV`, `TRY 2 FAIL` and the like.
            _ => Verdict::Failed,
        };
        let known = self.by_name.get(&(suite.to_owned(), test.to_owned())).copied();
        let (suite_index, test_index) = known.unwrap_or_else(|| self.add(suite, test, verdict));
        match verdict {
            Verdict::Passed => self.passed.insert((suite_index, test_index)),
            Verdict::Failed => self.listed.insert((suite_index, test_index)),
            Verdict::Ignored | Verdict::Unfinished => false,
        };
        let entry = &mut self.suites[suite_index].tests[test_index];
        // nextest repeats failures after the summary, without their output.
        entry.verdict = verdict;
        entry.seconds = seconds.or(entry.seconds);
        let tries = status.strip_prefix("FLAKY ").and_then(|tries| tries.split('/').next()?.parse::<u32>().ok());
        entry.failures = tries.map_or(entry.failures, |tries| tries.saturating_sub(1));
        self.current =
            (verdict == Verdict::Failed && entry.output == Output::default()).then_some((suite_index, test_index));
    }

    fn add(&mut self, suite: &str, test: &str, verdict: Verdict) -> (usize, usize) {
        let suite_index = self.suites.iter().position(|known| known.name == suite).unwrap_or_else(|| {
            self.suites.push(Suite { name: suite.to_owned(), ..Suite::default() });
            self.suites.len() - 1
        });
        let tests = &mut self.suites[suite_index].tests;
        tests.push(Test::new(test, verdict));
        let place = (suite_index, tests.len() - 1);
        self.by_name.insert((suite.to_owned(), test.to_owned()), place);
        self.done += 1;
        place
    }
}

fn named(suite: &Suite) -> Counts {
    let count = |verdict| suite.tests.iter().filter(|test| test.verdict == verdict).count();
    Counts { passed: count(Verdict::Passed), failed: count(Verdict::Failed), ignored: count(Verdict::Ignored) }
}

/// `PASS [   0.004s] (1/3) app::it tests::name`: status, seconds, suite, test. Older versions don't print the counter.
fn status_line(line: &str) -> Option<(String, Option<f64>, &str, &str)> {
    let rest = nextest_line(line)?;
    let (status, rest) = rest.split_once(" [")?;
    let words_are_capitals =
        status.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' ' || c == '/');
    if !words_are_capitals || !status.starts_with(|c: char| c.is_ascii_uppercase()) {
        return None;
    }
    let (time, rest) = rest.split_once(']')?;
    let time = time.trim().trim_start_matches('>').strip_suffix('s');
    let seconds = time.and_then(|time| time.trim().parse().ok());
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((counter, rest)) if counter.contains('/') => rest.trim_start(),
        _ => rest,
    };
    let (suite, test) = rest.split_once(' ')?;
    Some((status.trim().to_owned(), seconds, suite, test.trim()))
}

/// `Starting 3 tests across 2 binaries`.
fn starting(line: &str) -> Option<u64> {
    let rest = nextest_line(line)?.strip_prefix("Starting ")?;
    let (count, rest) = rest.split_once(' ')?;
    rest.starts_with("test").then(|| count.parse().ok())?
}

/// `Summary [   0.010s] 3 tests run: 2 passed (1 flaky), 1 failed, 1 timed out, 4 skipped`.
fn summary(line: &str) -> Option<(Counts, f64)> {
    let (time, rest) = nextest_line(line)?.strip_prefix("Summary [")?.split_once(']')?;
    let seconds = time.trim().strip_suffix('s')?.trim().parse().ok()?;
    let (_, rest) = rest.split_once(": ")?;
    let mut counts = Counts::default();
    for part in without_parentheses(rest).split(',') {
        let Some((count, what)) = part.trim().split_once(' ') else { continue };
        let count: usize = count.parse().ok()?;
        match what.trim() {
            "passed" => counts.passed = count,
            "skipped" => counts.ignored = count,
            "failed" | "timed out" | "exec failed" => counts.failed += count,
            _ => {}
        }
    }
    Some((counts, seconds))
}

/// A line whose status ends in the column to which nextest aligns it. The tests' output is indented by 4 instead.
fn nextest_line(line: &str) -> Option<&str> {
    const COLUMN: usize = 12;
    let words = line.trim_start();
    let indent = line.len() - words.len();
    let starts_early = words.find(" [").or_else(|| words.find(' '))?;
    (indent + starts_early == COLUMN || indent == 0 && starts_early > COLUMN).then_some(words)
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0_u32;
    let keep = |c: &char| {
        depth = match c {
            '(' => depth + 1,
            ')' => depth.saturating_sub(1),
            _ => depth,
        };
        depth == 0 && *c != ')'
    };
    text.chars().filter(keep).collect()
}

/// Whether a line is a horizontal rule.
fn is_rule(line: &str) -> bool {
    line.chars().count() > 3 && line.chars().all(|c| c == '─' || c == '-')
}
