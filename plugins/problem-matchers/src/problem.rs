//! What a matcher finds.

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemLevel {
    /// A compile error, a failed test, or the like.
    Error,
    /// A warning.
    Warning,
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourcePlace {
    /// As the program wrote it. An absolute path is that of the machine; see also [`SourcePlace::is_partial`].
    pub path: String,
    /// Counted from 1.
    pub line: Option<u32>,
    /// Counted from 1.
    pub column: Option<u32>,
    /// Whether the path may begin with folders that don't exist, as of a Go package, whose module is in some folder.
    pub is_partial: bool,
}

impl SourcePlace {
    /// A file as a whole.
    pub fn of_file(path: &str) -> SourcePlace {
        SourcePlace::new(path, None, None)
    }

    pub(crate) fn new(path: &str, line: Option<u32>, column: Option<u32>) -> SourcePlace {
        SourcePlace { path: path.to_owned(), line, column, is_partial: false }
    }

    /// Whether the path is below the folder of a dependency or of a language's library, which is of no use to the reader of
    /// a stack trace.
    pub(crate) fn is_foreign(&self) -> bool {
        const FOREIGN: [&str; 9] = [
            "node_modules/",
            "site-packages/",
            "dist-packages/",
            "/lib/python",
            "/rustc/",
            "/go-",
            "/usr/lib/go",
            "/.cargo/registry/",
            "internal/",
        ];
        self.path.starts_with('<')
            || self.path.starts_with("node:")
            || FOREIGN.iter().any(|folder| self.path.contains(folder))
    }
}

/// An error, a warning or a failed test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchedProblem {
    /// Error or warning.
    pub level: ProblemLevel,
    /// The program's name for this kind of problem, as in `E0308` or `no-unused-vars`; for the failure of a test
    /// `test-failed`; else the name of the matcher.
    pub rule: String,
    /// One line.
    pub message: String,
    /// Where it is.
    pub place: Option<SourcePlace>,
    /// What the program printed with it, such as the lines of code, or what was expected.
    pub details: Vec<String>,
}

impl MatchedProblem {
    pub(crate) fn new(level: ProblemLevel, rule: &str, message: &str, place: Option<SourcePlace>) -> MatchedProblem {
        let (rule, message) = (rule.to_owned(), message.trim().to_owned());
        MatchedProblem { level, rule, message, place, details: Vec::new() }
    }

    pub(crate) fn error(rule: &str, message: &str, place: Option<SourcePlace>) -> MatchedProblem {
        MatchedProblem::new(ProblemLevel::Error, rule, message, place)
    }

    /// Adds a line of details. Those beyond [`MatchedProblem::MOST_DETAILS`] are dropped.
    pub(crate) fn detail(&mut self, line: &str) {
        if self.details.len() < MatchedProblem::MOST_DETAILS {
            self.details.push(line.trim_end().to_owned());
        }
    }

    /// The most lines of details: enough for the code that a compiler quotes.
    pub(crate) const MOST_DETAILS: usize = 12;
}

/// The failure of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FailedTest {
    /// What tells it apart from other tests. A runner may report the same failure twice: when it happens, and at the end.
    pub(crate) identity: String,
    /// Its name, for people.
    pub(crate) name: String,
    /// What it printed about its failure, line by line; may be empty.
    pub(crate) why: Vec<String>,
    pub(crate) place: Option<SourcePlace>,
}

impl FailedTest {
    pub(crate) fn new(name: &str) -> FailedTest {
        FailedTest { identity: name.to_owned(), name: name.to_owned(), why: Vec::new(), place: None }
    }

    /// Adds a line of the reason. Those beyond [`FailedTest::MOST_LINES`], and blank ones, are dropped.
    pub(crate) fn because(&mut self, line: &str) {
        if self.why.len() < FailedTest::MOST_LINES && !line.trim().is_empty() {
            self.why.push(line.trim_end().to_owned());
        }
    }

    const MOST_LINES: usize = 1 + MatchedProblem::MOST_DETAILS;
}
