//! Keeps the first problems, and counts the rest.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use crate::problem::{FailedTest, MatchedProblem, ProblemLevel};
use crate::wording::{message_and_details, test_failure};

/// The most errors that are kept. More don't help the reader, and GitHub shows no more of a job's annotations.
const ERRORS: usize = 50;
/// The most warnings that are kept: a build that succeeds with hundreds of them shouldn't fill the screen.
const WARNINGS: usize = 10;
/// The most problems beyond these that are distinguished. Further ones are counted even if they are repeated.
const COUNTED: usize = 10_000;
/// How deeply `make` may call itself.
const FOLDERS: usize = 64;

/// The problems of both streams.
pub(crate) struct Collector {
    errors: Kept,
    warnings: Kept,
    /// Consequences of other errors, such as that a recipe of `make` failed: they count only if there are no others.
    consequences: Vec<MatchedProblem>,
    /// The folders that `make` has entered. Its lines are on standard output, and those of a compiler on standard error.
    folders: Vec<String>,
}

/// Problems of one level.
pub(crate) struct Kept {
    limit: usize,
    problems: Vec<KeptProblem>,
    /// The identities of problems that weren't kept.
    others: HashSet<u64>,
    /// How many weren't kept.
    pub(crate) more: usize,
}

struct KeptProblem {
    identity: u64,
    kind: KeptKind,
}

enum KeptKind {
    Problem(MatchedProblem),
    Test(FailedTest),
}

impl Default for Collector {
    fn default() -> Collector {
        let kept = |limit| Kept { limit, problems: Vec::new(), others: HashSet::new(), more: 0 };
        let (consequences, folders) = (Vec::new(), Vec::new());
        Collector { errors: kept(ERRORS), warnings: kept(WARNINGS), consequences, folders }
    }
}

impl Collector {
    /// Adds a problem, unless an equal one is known: compilers repeat those of a file that is compiled twice.
    pub(crate) fn add(&mut self, problem: MatchedProblem) {
        let problem = self.located(problem);
        let identity = hash_of(&(&problem.rule, &problem.message, &problem.place));
        match problem.level {
            ProblemLevel::Error => self.errors.add(identity, KeptKind::Problem(problem)),
            ProblemLevel::Warning => self.warnings.add(identity, KeptKind::Problem(problem)),
        }
    }

    /// Adds a failed test, or what is new about one that is known.
    pub(crate) fn add_test(&mut self, test: FailedTest) {
        let identity = hash_of(&test.identity);
        if let Some(KeptKind::Test(known)) = self.errors.get(identity) {
            if known.why.is_empty() {
                known.why = test.why;
            }
            known.place = known.place.take().or(test.place);
            return;
        }
        self.errors.add(identity, KeptKind::Test(test));
    }

    /// Adds what other errors led to.
    pub(crate) fn add_consequence(&mut self, problem: MatchedProblem) {
        if self.consequences.is_empty() {
            self.consequences.push(problem);
        }
    }

    /// Paths are relative to this folder from now on.
    pub(crate) fn enter_folder(&mut self, path: &str) {
        if self.folders.len() < FOLDERS {
            self.folders.push(path.to_owned());
        }
    }

    /// Paths are relative to the folder before the last one again.
    pub(crate) fn leave_folder(&mut self) {
        self.folders.pop();
    }

    /// The problem with a path that includes the folder of `make`. A matcher that waits for more lines has to ask for it
    /// before them, since `make` may leave the folder meanwhile.
    pub(crate) fn located(&self, mut problem: MatchedProblem) -> MatchedProblem {
        if let (Some(folder), Some(place)) = (self.folders.last(), &mut problem.place)
            && !place.path.starts_with('/')
        {
            place.path = format!("{folder}/{}", place.path);
        }
        problem
    }

    /// The errors and the warnings, each with the number of those that weren't kept.
    pub(crate) fn finish(self) -> [(Vec<MatchedProblem>, usize); 2] {
        let Collector { errors, warnings, consequences, .. } = self;
        let (mut errors, more) = errors.finish();
        if errors.is_empty() {
            errors = consequences;
        }
        [(errors, more), warnings.finish()]
    }
}

impl Kept {
    fn add(&mut self, identity: u64, kind: KeptKind) {
        if self.problems.iter().any(|kept| kept.identity == identity) {
            return;
        }
        if self.problems.len() < self.limit {
            self.problems.push(KeptProblem { identity, kind });
        } else if self.others.len() == COUNTED || self.others.insert(identity) {
            self.more += 1;
        }
    }

    fn get(&mut self, identity: u64) -> Option<&mut KeptKind> {
        self.problems.iter_mut().find(|kept| kept.identity == identity).map(|kept| &mut kept.kind)
    }

    fn finish(self) -> (Vec<MatchedProblem>, usize) {
        let problems = self.problems.into_iter().map(|kept| match kept.kind {
            KeptKind::Problem(problem) => problem,
            KeptKind::Test(test) => described(test),
        });
        (problems.collect(), self.more)
    }
}

fn described(test: FailedTest) -> MatchedProblem {
    let (why, details) = message_and_details(&test.why);
    MatchedProblem { details, ..MatchedProblem::error("test-failed", &test_failure(&test.name, &why), test.place) }
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::SourcePlace;

    #[test]
    fn problems_beyond_the_limit_are_counted_once() {
        let mut collector = Collector::default();
        for _ in 0..2 {
            for number in 0..ERRORS + 3 {
                collector.add(MatchedProblem::error("x", &number.to_string(), None));
                collector.add(MatchedProblem::new(ProblemLevel::Warning, "x", &number.to_string(), None));
            }
        }
        let [(errors, more_errors), (warnings, more_warnings)] = collector.finish();
        assert_eq!((errors.len(), more_errors), (ERRORS, 3));
        assert_eq!((warnings.len(), more_warnings), (WARNINGS, ERRORS + 3 - WARNINGS));
        assert_eq!(errors[0].message, "0");
    }

    #[test]
    fn what_is_said_of_a_test_at_several_places_is_one_problem() {
        let mut collector = Collector::default();
        collector.add_test(FailedTest::new("a"));
        let mut again = FailedTest::new("a");
        again.because("left != right");
        again.place = Some(SourcePlace::new("a.rs", Some(1), None));
        collector.add_test(again.clone());
        let [(errors, _), _] = collector.finish();
        assert_eq!(errors.len(), 1);
        assert_eq!((errors[0].message.as_str(), &errors[0].place), ("test `a` failed: left != right", &again.place));
    }

    #[test]
    fn consequences_count_without_other_errors_alone() {
        let of = |other: bool| {
            let mut collector = Collector::default();
            collector.add_consequence(MatchedProblem::error("make", "recipe failed", None));
            if other {
                collector.add(MatchedProblem::error("x", "y", None));
            }
            let [(errors, _), _] = collector.finish();
            errors.into_iter().map(|problem| problem.message).collect::<Vec<_>>()
        };
        assert_eq!((of(false), of(true)), (vec!["recipe failed".to_owned()], vec!["y".to_owned()]));
    }
}
