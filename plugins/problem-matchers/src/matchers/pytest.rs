//! pytest: the sections of failures and errors, and the short summary. The summary has the full names, and the sections
//! have the places.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::place::at_start;
use crate::problem::{FailedTest, SourcePlace};

/// What precedes an exception that was raised because of the one above. The last of them is what the test failed with.
const CHAINED: [&str; 2] = [
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
];
/// The most failures whose sections are kept until the summary.
const MOST: usize = 100;

#[derive(Default)]
pub(crate) struct PytestMatcher {
    section: Section,
    /// The failures whose names the summary hasn't repeated yet.
    failures: Vec<FailedTest>,
    /// Whether the lines are the output that a test printed.
    in_captured: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Section {
    #[default]
    Other,
    Failures,
    Summary,
}

impl Section {
    fn titled(title: &str) -> Section {
        match title {
            "FAILURES" | "ERRORS" => Section::Failures,
            "short test summary info" => Section::Summary,
            _ => Section::Other,
        }
    }
}

impl Matcher for PytestMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        if let Some(title) = framed(line, '=') {
            let ended = std::mem::replace(&mut self.section, Section::titled(title));
            // Other sections, such as warnings, can stand between the failures and the summary.
            if ended == Section::Summary {
                self.end(collector);
            }
            return if self.section == Section::Other { Claim::No } else { Claim::Open };
        }
        match self.section {
            Section::Other => Claim::No,
            Section::Failures => {
                self.failure_line(line);
                Claim::Open
            }
            Section::Summary => self.summary_line(line, collector),
        }
    }

    fn end(&mut self, collector: &mut Collector) {
        self.failures.drain(..).for_each(|test| collector.add_test(test));
    }
}

impl PytestMatcher {
    fn failure_line(&mut self, line: &str) {
        if let Some(name) = framed(line, '_') {
            // `_ _ _ _` separates the frames of one failure.
            if name.trim_matches(['_', ' ']).is_empty() {
                return;
            }
            self.in_captured = false;
            if self.failures.len() < MOST {
                self.failures.push(FailedTest::new(name));
            }
            return;
        }
        let Some(test) = self.failures.last_mut() else { return };
        self.in_captured |= line.starts_with("----") && line.contains(" Captured ");
        if self.in_captured {
            return;
        }
        if let Some(why) = line.strip_prefix("E  ") {
            test.because(why);
        } else if CHAINED.contains(&line.trim_end()) {
            test.why.clear();
        } else if let Some((place, _)) = at_start(line) {
            // The stack may end in a library: the test is of more use.
            if !place.is_foreign() && !place.path.starts_with('/') || test.place.is_none() {
                test.place = Some(place);
            }
        }
    }

    /// `FAILED test_calc.py::test_adds - assert 5 == 4`, or `ERROR test_broken.py`.
    fn summary_line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        let entry = line.strip_prefix("FAILED ").or(line.strip_prefix("ERROR "));
        let Some(entry) = entry else {
            // In CI, messages have all their lines.
            if !is_total(line) {
                return Claim::Open;
            }
            self.section = Section::Other;
            self.end(collector);
            return Claim::No;
        };
        let (id, why) = entry.split_once(" - ").unwrap_or((entry, ""));
        let (file, name) = id.split_once("::").unwrap_or((id, ""));
        let name = name.replace("::", ".");
        let is_it = |test: &FailedTest| {
            let is_in_file = test.place.as_ref().is_none_or(|place| place.path == file);
            test.name == name || (name.is_empty() && test.name.ends_with(file)) || {
                let header = test.name.rsplit_once(" of ").map(|(_, header)| header);
                header == Some(&name) && is_in_file
            }
        };
        let in_file = |test: &FailedTest| is_it(test) && test.place.as_ref().is_some_and(|place| place.path == file);
        let known = self.failures.iter().position(in_file).or_else(|| self.failures.iter().position(is_it));
        let mut test = known.map_or_else(FailedTest::default, |index| self.failures.remove(index));
        if test.why.is_empty() {
            test.because(why);
        }
        test.place.get_or_insert_with(|| SourcePlace::new(file, None, None));
        collector.add_test(FailedTest { identity: id.to_owned(), name: id.to_owned(), ..test });
        Claim::Open
    }
}

/// `3 failed, 2 passed in 0.03s`, which has no frame with `-q`.
fn is_total(line: &str) -> bool {
    let is_count = |word: &str| [" failed", " passed", " error"].iter().any(|outcome| word.contains(outcome));
    line.rsplit_once(" in ").is_some_and(|(counts, time)| is_count(counts) && time.contains('s'))
        && line.starts_with(|letter: char| letter.is_ascii_digit())
}

/// The title of a line such as `==== FAILURES ====`.
fn framed(line: &str, frame: char) -> Option<&str> {
    let title = line.trim().strip_prefix(frame)?.trim_start_matches(frame).strip_suffix(frame)?.trim_end_matches(frame);
    let title = title.strip_prefix(' ')?.strip_suffix(' ')?.trim();
    Some(title).filter(|title| !title.is_empty())
}
