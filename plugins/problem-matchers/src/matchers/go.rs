//! `go test`, with and without `-v`, and panics of Go programs.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::place::{alone, at_start};
use crate::problem::{FailedTest, MatchedProblem, SourcePlace};

/// The most tests whose lines wait for the name of their package.
const MOST: usize = 100;

#[derive(Default)]
pub(crate) struct GoMatcher {
    /// The tests that have started, with `-v`, and what they have printed; the one that prints now is the last.
    started: Vec<FailedTest>,
    /// The failed tests of the package, whose name follows.
    failed: Vec<FailedTest>,
    panic: Option<Panic>,
}

struct Panic {
    message: String,
    place: Option<SourcePlace>,
}

impl Matcher for GoMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        let text = line.trim_start();
        if let Some(package) = package_end(line) {
            self.report(package, collector);
            return Claim::Line;
        }
        if self.panic.is_some() {
            return self.panic_line(line);
        }
        let runs = ["=== RUN ", "=== CONT ", "=== NAME "].iter().find_map(|word| line.strip_prefix(word));
        if let Some(name) = runs {
            let test = self.take_started(name.trim());
            if self.started.len() < MOST {
                self.started.push(test);
            }
            return Claim::Line;
        }
        if let Some(name) = text.strip_prefix("--- FAIL: ") {
            let (name, _duration) = name.rsplit_once(" (").unwrap_or((name, ""));
            let test = self.take_started(name);
            if self.failed.len() < MOST {
                self.failed.push(test);
            }
            return Claim::Open;
        }
        if let Some(message) = line.strip_prefix("panic: ").or(line.strip_prefix("fatal error: ")) {
            let message = message.trim_end_matches(" [recovered]").to_owned();
            self.panic = Some(Panic { message, place: None });
            return Claim::Open;
        }
        self.output_line(line)
    }

    fn end(&mut self, collector: &mut Collector) {
        self.report("", collector);
    }
}

impl GoMatcher {
    /// What a test has printed so far.
    fn take_started(&mut self, name: &str) -> FailedTest {
        let known = self.started.iter().position(|test| test.name == name);
        known.map_or_else(|| FailedTest::new(name), |index| self.started.remove(index))
    }

    /// `    calc_test.go:9: Add(2, 2) = 5, want 4`, of the running test or of the one that failed last.
    fn output_line(&mut self, line: &str) -> Claim {
        // With `-v` a test prints before its result, and otherwise after it.
        let test = if self.started.is_empty() { self.failed.last_mut() } else { self.started.last_mut() };
        match (test, at_start(line.trim_start())) {
            (Some(test), Some((place, message))) if line.starts_with("    ") && place.path.ends_with(".go") => {
                test.because(message.trim_start());
                test.place.get_or_insert(place);
                Claim::Open
            }
            // A message may have several lines, which are indented further.
            (Some(test), None) if line.starts_with("        ") && !test.why.is_empty() => {
                test.because(line.trim());
                Claim::Open
            }
            _ => Claim::No,
        }
    }

    fn panic_line(&mut self, line: &str) -> Claim {
        let Some(panic) = &mut self.panic else { return Claim::No };
        // A frame has two lines, of which the second one is `\t/path/file.go:7 +0x2e`.
        let file = line.trim_start().split(' ').next().and_then(alone);
        let file = file.filter(|place| !place.is_foreign() && place.path.ends_with(".go"));
        if let (None, Some(place)) = (&panic.place, file) {
            panic.place = Some(place);
        }
        Claim::Open
    }

    /// Reports what failed in a package.
    fn report(&mut self, package: &str, collector: &mut Collector) {
        self.started.clear();
        let mut failed = std::mem::take(&mut self.failed);
        if let Some(Panic { message, place }) = self.panic.take() {
            match failed.last_mut() {
                Some(test) => {
                    test.because(&format!("panic: {message}"));
                    test.place = test.place.take().or(place);
                }
                None => collector.add(MatchedProblem::error("panic", &format!("panic: {message}"), place)),
            }
        }
        let names: Vec<String> = failed.iter().map(|test| test.name.clone()).collect();
        for test in failed {
            // A test fails with its subtests, which say why.
            let prefix = format!("{}/", test.name);
            if test.why.is_empty() && names.iter().any(|name| name.starts_with(&prefix)) {
                continue;
            }
            let identity = format!("{package} {}", test.name);
            let place = test.place.map(|place| below_package(package, place));
            collector.add_test(FailedTest { identity, place, ..test });
        }
    }
}

/// The path of a file of a package. `go test` names only the file.
fn below_package(package: &str, place: SourcePlace) -> SourcePlace {
    if package.is_empty() || place.path.contains('/') {
        return place;
    }
    SourcePlace { path: format!("{package}/{}", place.path), is_partial: true, ..place }
}

/// `FAIL\texample.org/calc\t0.004s`: the name of the package.
fn package_end(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("FAIL\t").or(line.strip_prefix("ok  \t"))?;
    rest.split_whitespace().next()
}
