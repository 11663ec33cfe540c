//! Reads the output of Cargo or nextest while it runs.

use std::collections::VecDeque;

use stagewright_sdk::log;
use stagewright_sdk::process::{ExitStatus, Line, Source};

use crate::compile::CompileErrors;
use crate::config::Runner;
use crate::results::Results;
use crate::{libtest, nextest};

/// How many lines of standard error are shown when no other cause is known.
const STDERR_TAIL: usize = 20;

/// The runner's exit status and parsed output.
pub(crate) struct RunnerOutput {
    pub(crate) status: ExitStatus,
    pub(crate) results: Results,
    pub(crate) compile: CompileErrors,
    /// The last lines of standard error.
    pub(crate) stderr_tail: VecDeque<String>,
}

/// Passes each line to the parsers.
pub(crate) struct Reader {
    tests: Tests,
    compile: CompileErrors,
    stderr_tail: VecDeque<String>,
    reported: u64,
}

enum Tests {
    Libtest(libtest::Parser),
    Nextest(nextest::Parser),
}

impl Tests {
    fn have_begun(&self) -> bool {
        match self {
            Tests::Libtest(parser) => parser.has_begun(),
            Tests::Nextest(parser) => parser.progress().1.is_some(),
        }
    }

    /// Returns the number of tests that ended, and of all tests known so far.
    fn push(&mut self, source: Source, text: &str) -> (u64, Option<u64>) {
        match self {
            Tests::Libtest(parser) => {
                match source {
                    Source::Stdout => parser.stdout(text),
                    Source::Stderr => parser.stderr(text),
                }
                parser.progress()
            }
            Tests::Nextest(parser) => {
                parser.line(text);
                parser.progress()
            }
        }
    }
}

impl Reader {
    pub(crate) fn new(runner: Runner) -> Reader {
        let tests = match runner {
            Runner::Cargo => Tests::Libtest(libtest::Parser::default()),
            Runner::Nextest => Tests::Nextest(nextest::Parser::default()),
        };
        Reader { tests, compile: CompileErrors::default(), stderr_tail: VecDeque::new(), reported: 0 }
    }

    pub(crate) fn push(&mut self, Line { source, text }: Line<'_>) {
        if source == Source::Stderr {
            // Cargo compiles everything before the first test runs. After that, a line that looks like a compile error
            // is a test's output.
            if !self.tests.have_begun() {
                self.compile.push(text);
            }
            // Cargo repeats some errors for each target of a package.
            let is_repeated = self.stderr_tail.back().is_some_and(|last| last == text);
            if !text.trim().is_empty() && !is_repeated {
                self.stderr_tail.push_back(text.to_owned());
            }
            if self.stderr_tail.len() > STDERR_TAIL {
                self.stderr_tail.pop_front();
            }
        }
        let (done, total) = self.tests.push(source, text);
        if done != self.reported {
            self.reported = done;
            log::progress("tests", done, total);
        }
    }

    pub(crate) fn finish(self, status: ExitStatus) -> RunnerOutput {
        let results = match self.tests {
            Tests::Libtest(parser) => parser.finish(status.success()),
            Tests::Nextest(parser) => parser.finish(status.success()),
        };
        RunnerOutput { status, results, compile: self.compile, stderr_tail: self.stderr_tail }
    }
}
