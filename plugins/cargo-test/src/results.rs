//! The results of a test run, the same for both runners.

/// How many lines of a test's output are kept, from its beginning.
const OUTPUT_LINES: usize = 200;

/// The end of the names of suites of doc-tests.
pub(crate) const DOC_TESTS: &str = " (doc-tests)";
/// The name of the case of an executable that didn't finish.
pub(crate) const EXECUTABLE: &str = "(executable)";

/// The test executables that were run, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Results {
    pub(crate) suites: Vec<Suite>,
}

/// One test executable, or the doc-tests of one crate.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Suite {
    pub(crate) name: String,
    pub(crate) tests: Vec<Test>,
    /// The runner's own counts; none when the executable ended before it printed them.
    pub(crate) counts: Option<Counts>,
    pub(crate) seconds: f64,
}

/// The counts in a runner's summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    pub(crate) seconds: Option<f64>,
    /// How often it failed before a retry passed.
    pub(crate) failures: u32,
    /// The output of a failed test.
    pub(crate) output: Output,
    /// Whether there was output of the test between its name and its verdict.
    pub(crate) had_output: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    Ignored,
    /// Its executable ended while it ran.
    Unfinished,
}

/// The first lines of a test's output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Output(Vec<String>);

impl Output {
    pub(crate) fn push(&mut self, line: &str) {
        if self.0.len() < OUTPUT_LINES && !(self.0.is_empty() && line.trim().is_empty()) {
            self.0.push(line.to_owned());
        }
    }

    /// Without blank lines at its end.
    pub(crate) fn lines(&self) -> &[String] {
        let length = self.0.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last + 1);
        &self.0[..length]
    }
}

impl Test {
    pub(crate) fn new(name: &str, verdict: Verdict) -> Test {
        let output = Output::default();
        Test { name: name.to_owned(), verdict, seconds: None, failures: 0, output, had_output: false }
    }

    pub(crate) fn is_failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed | Verdict::Unfinished)
    }
}

impl Suite {
    /// Whether its executable ended before its tests: it was killed, or a test called `exit`.
    pub(crate) fn is_broken(&self) -> bool {
        self.counts.is_none()
    }

    fn count(&self, predicate: impl Fn(&Test) -> bool) -> usize {
        self.tests.iter().filter(|test| predicate(test)).count()
    }

    /// Prefers the runner's own counts, because a test's output can garble the lines of tests.
    fn counts(&self) -> Counts {
        self.counts.unwrap_or_else(|| Counts {
            passed: self.count(|test| test.verdict == Verdict::Passed),
            // At least 1: the executable is broken, even if no failed test can be named.
            failed: self.count(Test::is_failed).max(1),
            ignored: self.count(|test| test.verdict == Verdict::Ignored),
        })
    }
}

impl Results {
    pub(crate) fn passed(&self) -> usize {
        self.suites.iter().map(|suite| suite.counts().passed).sum()
    }

    pub(crate) fn failed(&self) -> usize {
        self.suites.iter().map(|suite| suite.counts().failed).sum()
    }

    pub(crate) fn ignored(&self) -> usize {
        self.suites.iter().map(|suite| suite.counts().ignored).sum()
    }

    pub(crate) fn seconds(&self) -> f64 {
        // The sum of no floating-point numbers is negative zero.
        self.suites.iter().fold(0.0, |sum, suite| sum + suite.seconds)
    }
}
