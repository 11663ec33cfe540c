//! The lines to show of output that no matcher recognises: those around the first one that looks like an error, or else
//! the last ones. Also finds what looks like an error after the last problem that a matcher has recognised, since a program
//! that prints problems may fail for another reason.

use std::collections::VecDeque;

/// How many lines before the first error are shown.
const BEFORE: usize = 2;
/// How many lines after it are shown.
const AFTER: usize = 12;
/// How many of the last lines are shown if none looks like an error: enough for the top of a stack trace.
const LAST: usize = 20;
/// How many lines are shown of an error after the last problem.
const AFTERMATH: usize = 4;

/// The lines of one stream.
#[derive(Default)]
pub(crate) struct Excerpt {
    /// The last lines that aren't blank.
    last: VecDeque<String>,
    /// Those around the first error.
    around: Vec<String>,
    /// How many lines of `around` are still to come; none before the first error.
    missing: Option<usize>,
    aftermath: Vec<String>,
}

impl Excerpt {
    /// `is_recognised`: whether the line belongs to a problem that a matcher has found.
    pub(crate) fn push(&mut self, line: &str, is_recognised: bool) {
        if is_recognised {
            self.aftermath.clear();
        }
        if line.trim().is_empty() {
            return;
        }
        let is_error = looks_like_error(line);
        match &mut self.missing {
            None if is_error => {
                self.around = self.last.iter().rev().take(BEFORE).rev().cloned().collect();
                self.around.push(line.to_owned());
                self.missing = Some(AFTER);
            }
            Some(missing) if *missing > 0 => {
                self.around.push(line.to_owned());
                *missing -= 1;
            }
            _ => {}
        }
        let begins = self.aftermath.is_empty() && is_error && !is_consequence(line);
        if !is_recognised && (begins || (1..AFTERMATH).contains(&self.aftermath.len())) {
            self.aftermath.push(line.to_owned());
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }

    pub(crate) fn has_error(&self) -> bool {
        !self.around.is_empty()
    }

    /// The lines around the first error, or else the last ones.
    pub(crate) fn lines(self) -> Vec<String> {
        if self.around.is_empty() { self.last.into() } else { self.around }
    }

    /// What looks like an error after the last problem.
    pub(crate) fn aftermath(&self) -> &[String] {
        &self.aftermath
    }
}

/// Whether a line is likely to say what failed.
fn looks_like_error(line: &str) -> bool {
    const FIRST: [&str; 14] = [
        "error:",
        "error[",
        "error ",
        "fatal:",
        "fatal ",
        "fail:",
        "fail ",
        "failed",
        "not ok",
        "panic:",
        "traceback (",
        "✖",
        "✘",
        "✗",
    ];
    const ANYWHERE: [&str; 9] = [
        ": error:",
        "fatal error",
        "exception:",
        ": command not found",
        ": not found",
        "no such file or directory",
        "permission denied",
        "segmentation fault",
        "err!",
    ];
    let text = line.trim_start().to_lowercase();
    let first = text.split_whitespace().next().unwrap_or_default();
    let is_named = first.ends_with("error:") || first == "fail" || first == "e:";
    is_named || FIRST.iter().any(|start| text.starts_with(start)) || ANYWHERE.iter().any(|part| text.contains(part))
}

/// Whether a line only says that something else failed.
fn is_consequence(line: &str) -> bool {
    const CONSEQUENCES: [&str; 11] = [
        "error: could not compile",
        "error: aborting due to",
        "error: test failed",
        "error: test run failed",
        "error: doctest failed",
        "npm err",
        "error command failed",
        "failed (",
        "fail ",
        "failed ",
        "collect2: error",
    ];
    let text = line.trim_start().to_lowercase();
    // ESLint counts its problems in the last line.
    let is_count = text.strip_prefix("✖ ").is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()));
    is_count || text.trim() == "fail" || CONSEQUENCES.iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut excerpt = Excerpt::default();
        lines.into_iter().for_each(|line| excerpt.push(&line, false));
        excerpt.lines()
    }

    fn numbered(count: usize) -> impl Iterator<Item = String> {
        (0..count).map(|number| format!("line {number}"))
    }

    #[test]
    fn without_an_error_the_last_lines_are_shown() {
        let shown = of(numbered(100).chain([" ".to_owned()]));
        assert_eq!((shown.len(), shown[0].as_str(), shown[LAST - 1].as_str()), (LAST, "line 80", "line 99"));
    }

    #[test]
    fn the_first_error_is_shown_with_the_lines_around_it() {
        let error = "Error: no space left".to_owned();
        let shown = of(numbered(50).chain([error.clone()]).chain(numbered(50)).chain(["error: later".to_owned()]));
        assert_eq!(shown.len(), BEFORE + 1 + AFTER);
        assert_eq!((shown[0].as_str(), &shown[BEFORE], shown[BEFORE + 1].as_str()), ("line 48", &error, "line 0"));
    }

    #[test]
    fn an_error_after_the_last_problem_is_found_unless_it_is_a_consequence() {
        let after = |lines: &[(&str, bool)]| {
            let mut excerpt = Excerpt::default();
            lines.iter().for_each(|(line, is_recognised)| excerpt.push(line, *is_recognised));
            excerpt.aftermath().to_vec()
        };
        assert_eq!(after(&[("a.c:1: error: x", true), ("fatal: disk full", false), ("more", false)]).len(), 2);
        assert_eq!(
            after(&[("fatal: x", false), ("a.c:1: error: x", true), ("error: could not compile", false)]).len(),
            0
        );
    }

    #[test]
    fn lines_that_say_what_failed_are_recognised() {
        for line in [
            "fatal: not a git repository",
            "Error: x",
            "TypeError: x",
            "sh: 1: nope: not found",
            "FAIL",
            "not ok 3 - x",
            "npm ERR! code E404",
            "ld: error: undefined symbol",
            "E: Unable to locate package",
            "error[E1]: x",
        ] {
            assert!(looks_like_error(line), "{line}");
        }
        for line in ["ok 1", "0 errors", "errors: none", "fine", "failure is not an option", "no error"] {
            assert!(!looks_like_error(line), "{line}");
        }
    }
}
