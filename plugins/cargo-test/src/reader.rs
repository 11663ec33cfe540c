//! Reads what Cargo or nextest prints while it runs.

use std::collections::VecDeque;

use stagewright_sdk::log;
use stagewright_sdk::process::{ExitStatus, Line, Source};

use crate::compile::CompileErrors;
use crate::config::Runner;
use crate::results::Results;
use crate::{libtest, nextest};

/// Lines of standard error that are shown when nothing better is known.
const LAST_WORDS: usize = 20;

/// What the runner said.
pub(crate) struct Heard {
    pub(crate) status: ExitStatus,
    pub(crate) results: Results,
    pub(crate) compile: CompileErrors,
    /// Of standard error.
    pub(crate) last_words: VecDeque<String>,
}

/// Hands each line to those who can read it.
pub(crate) struct Reader {
    tests: Tests,
    compile: CompileErrors,
    last_words: VecDeque<String>,
    told: u32,
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

    /// Tests done, and how many there are as far as is known.
    fn take(&mut self, source: Source, text: &str) -> (u32, Option<u32>) {
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
        Reader { tests, compile: CompileErrors::default(), last_words: VecDeque::new(), told: 0 }
    }

    pub(crate) fn take(&mut self, Line { source, text }: Line<'_>) {
        if source == Source::Stderr {
            // Cargo compiles everything before the first test runs; from then on tests may print the same words.
            if !self.tests.have_begun() {
                self.compile.take(text);
            }
            if !text.trim().is_empty() {
                self.last_words.push_back(text.to_owned());
            }
            if self.last_words.len() > LAST_WORDS {
                self.last_words.pop_front();
            }
        }
        let (done, total) = self.tests.take(source, text);
        if done != self.told {
            self.told = done;
            log::progress("tests", done, total);
        }
    }

    pub(crate) fn finish(self, status: ExitStatus) -> Heard {
        let results = match self.tests {
            Tests::Libtest(parser) => parser.finish(status.success()),
            Tests::Nextest(parser) => parser.finish(status.success()),
        };
        Heard { status, results, compile: self.compile, last_words: self.last_words }
    }
}
