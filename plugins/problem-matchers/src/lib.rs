//! Finds what failed in the output of a program: the errors and warnings of compilers and linters, and the failures of test
//! runners, each with its message and, if the output names it, its place in a file.
//!
//! Input: the bytes of the program's two streams, as they come. Output: [`ScannedOutput`]. Each stream is split into
//! [lines] without colours. A line is shown to the [matchers] in turn, until one of them recognises it; a matcher that is
//! in the middle of a message is asked first. What they find goes to the [collector], which keeps the first problems and
//! counts the rest. For output that no matcher recognises, there is an [excerpt].
//!
//! The output is untrusted. Memory is bounded, whatever a program prints, and a match is a statement of the program and not
//! a fact: whether something failed is for the exit code to say. This crate calls no host, so that any plugin can use it.

mod collector;
mod excerpt;
mod lines;
mod matchers;
mod place;
mod problem;
mod scanner;
mod wording;

pub use matchers::NAMES;
pub use problem::{MatchedProblem, ProblemLevel, SourcePlace};
pub use scanner::{OutputScanner, OutputStream, ScannedOutput};
