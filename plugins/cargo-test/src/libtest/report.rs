//! The output of one executable, from `running … tests` to its totals.

use super::{details_of, test_line};
use crate::results::{Counts, Output, Suite, Test, Verdict};

/// The lines of an executable whose totals haven't been read yet.
pub(super) struct Report<'a> {
    /// The number in `running … tests`.
    total: usize,
    lines: Vec<&'a str>,
}

impl<'a> Report<'a> {
    pub(super) fn new(total: usize) -> Report<'a> {
        Report { total, lines: Vec::new() }
    }

    pub(super) fn push(&mut self, line: &'a str) {
        self.lines.push(line);
    }

    /// Whether `counts` can be its totals. `failed`: whether the executable failed, if that is known.
    pub(super) fn fits(&self, counts: Counts, failed: Option<bool>) -> bool {
        counts.passed + counts.failed + counts.ignored == self.total
            && failed.is_none_or(|failed| failed == (counts.failed > 0))
            && (counts.failed == 0 || self.failures(counts.failed).is_some())
    }

    /// The suite of an executable that ended without printing its totals.
    pub(super) fn broken(self) -> Suite {
        Suite { tests: tests(&self.lines), ..Suite::default() }
    }

    pub(super) fn ended(self, counts: Counts, seconds: f64) -> Suite {
        let (failed, before) = self.failures(counts.failed).unwrap_or((Vec::new(), self.lines.len()));
        let details = self.details(&failed, before);
        let mut found = tests(&self.lines[..details]);
        found.retain_mut(|test| {
            let is_failed = failed.iter().any(|name| is_of(test, name));
            match test.verdict {
                _ if is_failed => test.verdict = Verdict::Failed,
                // It isn't in the list of failures, so a test printed this line.
                Verdict::Failed if !test.had_output => return false,
                Verdict::Failed | Verdict::Unfinished => test.verdict = Verdict::Passed,
                Verdict::Passed | Verdict::Ignored => {}
            }
            true
        });
        let mut kept: Vec<Test> = Vec::new();
        for test in found {
            let is_known = kept.iter().any(|known| known.name == test.name);
            if !is_known && (test.is_failed() || kept.len() < self.total) {
                kept.push(test);
            }
        }
        for name in failed {
            let index = kept.iter().position(|test| is_of(test, name)).unwrap_or_else(|| {
                kept.push(Test::new(name, Verdict::Failed));
                kept.len() - 1
            });
            self.add_details(&mut kept[index], name, details..before);
        }
        Suite { tests: kept, counts: Some(counts), seconds, ..Suite::default() }
    }

    /// The names of the failed tests, and the index at which their list begins. The list is the last part of the output.
    fn failures(&self, count: usize) -> Option<(Vec<&'a str>, usize)> {
        let begin = self.lines.iter().rposition(|&line| line == "failures:")?;
        let names: Vec<&str> = self.lines[begin + 1..].iter().copied().filter(|line| !line.trim().is_empty()).collect();
        let names: Vec<&str> = names.iter().map(|line| line.strip_prefix("    ")).collect::<Option<_>>()?;
        (names.len() == count).then_some((names, begin))
    }

    /// The index at which the failed tests' output begins; `before`, where their list begins, if there is no such output.
    fn details(&self, failed: &[&str], before: usize) -> usize {
        let begins = |at: &usize| {
            let mut next = self.lines[at + 1..before].iter().filter(|line| !line.trim().is_empty());
            self.lines[*at] == "failures:"
                && next.next().and_then(|line| details_of(line)).is_some_and(|name| failed.contains(&name))
        };
        (0..before).find(begins).unwrap_or(before)
    }

    fn add_details(&self, test: &mut Test, name: &str, place: std::ops::Range<usize>) {
        let mut inside = false;
        for line in &self.lines[place] {
            match details_of(line) {
                Some(other) => inside = other == name,
                None if inside => test.output.push(line),
                None => {}
            }
        }
    }
}

/// Whether a name in the list of failures is that of `test`, whose line may have a suffix, as in `NAME - should panic`.
fn is_of(test: &Test, name: &str) -> bool {
    test.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(" - "))
}

/// Parses the lines of the tests.
fn tests(lines: &[&str]) -> Vec<Test> {
    let mut found: Vec<Test> = Vec::new();
    let mut glued = None;
    for line in lines {
        if let Some((name, rest)) = test_line(line) {
            close_unfinished(&mut found, glued.take());
            let verdict = verdict(rest);
            found.push(Test::new(name, verdict.unwrap_or(Verdict::Unfinished)));
            glued = glued_verdict(rest);
            continue;
        }
        if is_glued_pass(line)
            && let Some((_, name)) = line.trim_end_matches(" ... ok").rsplit_once("test ")
        {
            found.push(Test::new(name, Verdict::Passed));
            continue;
        }
        // With `--nocapture`, a test's output is between its name and its verdict.
        let Some(test) = found.last_mut().filter(|test| test.verdict == Verdict::Unfinished) else { continue };
        test.had_output = true;
        match verdict(line) {
            Some(verdict) => test.verdict = verdict,
            None => test.output.push(line),
        }
        glued = glued_verdict(line);
    }
    found
}

/// Applies the verdict at the end of a test's last line of output, which had no line end of its own. It counts only once
/// the next test begins: before that, the line may be output.
fn close_unfinished(found: &mut [Test], glued: Option<Verdict>) {
    if let (Some(test), Some(verdict)) = (found.last_mut(), glued)
        && test.verdict == Verdict::Unfinished
    {
        test.verdict = verdict;
        test.had_output = true;
        test.output = Output::default();
    }
}

fn glued_verdict(text: &str) -> Option<Verdict> {
    match text {
        _ if text.ends_with("ok") => Some(Verdict::Passed),
        _ if text.ends_with("FAILED") => Some(Verdict::Failed),
        _ => None,
    }
}

/// Whether a line is output without a line end followed by the line of a passed test: `progress...test NAME ... ok`.
pub(super) fn is_glued_pass(line: &str) -> bool {
    !line.starts_with("test ") && line.ends_with(" ... ok") && line.contains("test ")
}

/// Parses `ok`, `FAILED`, `ignored, reason` or `bench: …`. A duration may follow.
pub(super) fn verdict(text: &str) -> Option<Verdict> {
    let word = text.split([' ', ',', '<']).next()?;
    match word {
        "ok" | "bench:" => Some(Verdict::Passed),
        "FAILED" => Some(Verdict::Failed),
        "ignored" => Some(Verdict::Ignored),
        _ => None,
    }
}
