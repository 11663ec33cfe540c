//! The matchers, one for each kind of output.

mod ava;
mod cmake;
mod diagnostic;
mod eslint;
mod github;
mod go;
mod headed;
mod jest;
mod make;
mod mocha;
mod node;
mod pytest;
mod python;
mod rust;
mod rust_test;
mod tap;
mod tsc;

use self::headed::HeadedMatcher;
use crate::collector::Collector;

/// What a matcher says about a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It isn't part of a problem.
    No,
    /// It is; the next line may be anything.
    Line,
    /// It is, and the matcher is asked first about the next line. It has to report what it holds when it answers
    /// [`Claim::No`].
    Open,
}

/// Recognises the problems of a kind of output.
pub(crate) trait Matcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim;

    /// Reports what is left at the end of the output.
    fn end(&mut self, _collector: &mut Collector) {}
}

type Constructor = fn() -> Box<dyn Matcher>;

/// In the order in which they are asked: what is unmistakable comes first.
const MATCHERS: [(&str, Constructor); 16] = [
    ("github", || Box::new(github::GithubMatcher)),
    ("rust", || Box::<rust::RustMatcher>::default()),
    ("rust-test", || Box::<rust_test::RustTestMatcher>::default()),
    ("pytest", || Box::<pytest::PytestMatcher>::default()),
    ("python", || Box::<python::PythonMatcher>::default()),
    ("jest", || Box::<jest::JestMatcher>::default()),
    ("mocha", || Box::<mocha::MochaMatcher>::default()),
    ("ava", || Box::<ava::AvaMatcher>::default()),
    ("node", || Box::<node::NodeMatcher>::default()),
    ("tap", || Box::<tap::TapMatcher>::default()),
    ("tsc", || Box::new(HeadedMatcher::new(tsc::head, tsc::is_continuation))),
    ("eslint", || Box::<eslint::EslintMatcher>::default()),
    ("go", || Box::<go::GoMatcher>::default()),
    ("cmake", || Box::<cmake::CmakeMatcher>::default()),
    ("make", || Box::<make::MakeMatcher>::default()),
    ("diagnostic", || Box::new(HeadedMatcher::new(diagnostic::head, diagnostic::is_continuation))),
];

/// The names of the matchers.
pub const NAMES: [&str; MATCHERS.len()] = {
    let mut names = [""; MATCHERS.len()];
    let mut index = 0;
    while index < MATCHERS.len() {
        names[index] = MATCHERS[index].0;
        index += 1;
    }
    names
};

/// A new one of each that is enabled.
pub(crate) fn all(is_enabled: &impl Fn(&str) -> bool) -> Vec<Box<dyn Matcher>> {
    MATCHERS.iter().filter(|(name, _)| is_enabled(name)).map(|(_, new)| new()).collect()
}
