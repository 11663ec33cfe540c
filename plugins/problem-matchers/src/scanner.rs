//! Passes the lines of both streams to the matchers.

use crate::collector::Collector;
use crate::excerpt::Excerpt;
use crate::lines::LineSplitter;
use crate::matchers::{Claim, Matcher, all};
use crate::problem::MatchedProblem;

/// A stream of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What was found in the output of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScannedOutput {
    /// The first errors, in order.
    pub errors: Vec<MatchedProblem>,
    /// How many more errors there were.
    pub more_errors: usize,
    /// The first warnings, in order.
    pub warnings: Vec<MatchedProblem>,
    /// How many more warnings there were.
    pub more_warnings: usize,
    /// The lines to show if no error was found: those around the first one that looks like an error, or else the last ones.
    pub excerpt: Vec<String>,
    /// Lines after the last error that look like another one, which no matcher recognises.
    pub aftermath: Vec<String>,
}

/// Reads the output of a program.
///
/// ```
/// use problem_matchers::{OutputScanner, OutputStream};
///
/// let mut scanner = OutputScanner::new(|_matcher| true);
/// scanner.push(OutputStream::Stderr, b"src/a.c:3:5: error: unknown type name 'in");
/// scanner.push(OutputStream::Stderr, b"te'\n");
/// let output = scanner.finish();
/// assert_eq!(output.errors[0].message, "unknown type name 'inte'");
/// assert_eq!(output.errors[0].place.as_ref().unwrap().line, Some(3));
/// ```
pub struct OutputScanner {
    stdout: StreamScanner,
    stderr: StreamScanner,
    collector: Collector,
}

/// The state of one stream.
struct StreamScanner {
    splitter: LineSplitter,
    matchers: Vec<Box<dyn Matcher>>,
    /// The matcher that is in the middle of a message.
    open: Option<usize>,
    excerpt: Excerpt,
}

impl OutputScanner {
    /// `is_enabled`: which of [`NAMES`](crate::NAMES) to use.
    pub fn new(is_enabled: impl Fn(&str) -> bool) -> OutputScanner {
        let stream = || StreamScanner {
            splitter: LineSplitter::default(),
            matchers: all(&is_enabled),
            open: None,
            excerpt: Excerpt::default(),
        };
        OutputScanner { stdout: stream(), stderr: stream(), collector: Collector::default() }
    }

    /// Reads the next piece of a stream, which may end within a line and within a character.
    pub fn push(&mut self, stream: OutputStream, data: &[u8]) {
        let stream = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        let StreamScanner { splitter, matchers, open, excerpt } = stream;
        splitter.push(data, |line| scan_line(line, matchers, open, excerpt, &mut self.collector));
    }

    /// What was found.
    pub fn finish(mut self) -> ScannedOutput {
        let mut aftermath = Vec::new();
        let [stdout, stderr] = [self.stdout, self.stderr].map(|stream| {
            let StreamScanner { splitter, mut matchers, mut open, mut excerpt } = stream;
            splitter.finish(|line| scan_line(line, &mut matchers, &mut open, &mut excerpt, &mut self.collector));
            matchers.iter_mut().for_each(|matcher| matcher.end(&mut self.collector));
            aftermath.extend_from_slice(excerpt.aftermath());
            excerpt
        });
        let is_on_stdout = stdout.has_error() && !stderr.has_error();
        let [mut shown, other] = if is_on_stdout { [stdout, stderr] } else { [stderr, stdout] }.map(Excerpt::lines);
        if shown.is_empty() {
            shown = other;
        }
        let [(errors, more_errors), (warnings, more_warnings)] = self.collector.finish();
        ScannedOutput { errors, more_errors, warnings, more_warnings, excerpt: shown, aftermath }
    }
}

/// Asks the matcher that is in the middle of a message, and then the others in order.
fn scan_line(
    line: &str,
    matchers: &mut [Box<dyn Matcher>],
    open: &mut Option<usize>,
    excerpt: &mut Excerpt,
    collector: &mut Collector,
) {
    let asked_first = open.take();
    let others = (0..matchers.len()).filter(|index| Some(*index) != asked_first);
    let mut is_recognised = false;
    for index in asked_first.into_iter().chain(others) {
        match matchers[index].line(line, collector) {
            Claim::No => continue,
            Claim::Line => {}
            Claim::Open => *open = Some(index),
        }
        is_recognised = true;
        break;
    }
    excerpt.push(line, is_recognised);
}
