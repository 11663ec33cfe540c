//! The Test Anything Protocol, versions 12 to 14: `not ok`, and the diagnostics below it in YAML or as comments.

use crate::collector::Collector;
use crate::matchers::{Claim, Matcher};
use crate::place::number;
use crate::problem::FailedTest;

use diagnostics::Diagnostics;

mod diagnostics;

#[derive(Default)]
pub(crate) struct TapMatcher {
    /// The failure whose diagnostics may follow, and the indentation of its line.
    open: Option<(FailedTest, usize)>,
    yaml: Option<Diagnostics>,
    /// The indentation of the last failure. A test that fails with its subtests, which come before it, is indented less.
    failed_at: Option<usize>,
    /// How many failures there were: several may have the same name.
    failures: u32,
}

impl Matcher for TapMatcher {
    fn line(&mut self, line: &str, collector: &mut Collector) -> Claim {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(claim) = self.diagnostics_line(line, collector) {
            return claim;
        }
        if let Some(reason) = text.strip_prefix("Bail out!") {
            self.end(collector);
            let problem =
                crate::problem::MatchedProblem::error("bail-out", &format!("Bail out! {}", reason.trim()), None);
            collector.add(problem);
            return Claim::Line;
        }
        let Some((is_ok, description)) = test_point(text) else {
            self.end(collector);
            return Claim::No;
        };
        self.end(collector);
        let is_parent = self.failed_at.is_some_and(|failed| failed > indent);
        if is_ok {
            self.failed_at = self.failed_at.filter(|_| !is_parent);
            return Claim::Line;
        }
        self.failed_at = Some(indent);
        if !is_parent {
            self.failures += 1;
            let identity = format!("tap {}", self.failures);
            self.open = Some((FailedTest { identity, ..FailedTest::new(description) }, indent));
        }
        Claim::Open
    }

    fn end(&mut self, collector: &mut Collector) {
        let yaml = self.yaml.take();
        if let Some((mut test, _)) = self.open.take() {
            if let Some(yaml) = yaml {
                yaml.explain(&mut test);
            }
            collector.add_test(test);
        }
    }
}

impl TapMatcher {
    /// A line of the diagnostics of the failure that is open.
    fn diagnostics_line(&mut self, line: &str, collector: &mut Collector) -> Option<Claim> {
        let (test, indent) = self.open.as_mut()?;
        if let Some(yaml) = &mut self.yaml {
            if line.trim() == "..." && line.len() - line.trim_start().len() <= *indent + 4 {
                self.end(collector);
                return Some(Claim::Line);
            }
            yaml.push(line);
            return Some(Claim::Open);
        }
        let text = line.trim();
        if text == "---" {
            self.yaml = Some(Diagnostics::default());
            return Some(Claim::Open);
        }
        if text.is_empty() {
            return Some(Claim::Open);
        }
        let comment = text.strip_prefix('#').map(str::trim)?;
        // The next subtest.
        if comment.starts_with("Subtest") {
            return None;
        }
        diagnostics::comment(comment, test);
        Some(Claim::Open)
    }
}

/// `ok` or `not ok`, with the description. A failure that a directive expects counts as a success.
fn test_point(text: &str) -> Option<(bool, &str)> {
    let (is_ok, rest) = match text.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("ok")?),
    };
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let rest = rest.trim_start();
    let counted = number(rest).map_or(rest, |(_, rest)| rest).trim_start();
    let description = counted.strip_prefix("- ").unwrap_or(counted);
    let (description, directive) = description.rsplit_once(" # ").unwrap_or((description, ""));
    let directive = directive.to_lowercase();
    let is_expected = directive.starts_with("todo") || directive.starts_with("skip");
    let is_directive = is_expected || directive.starts_with("time=") || directive.is_empty();
    let description = if is_directive { description } else { counted.strip_prefix("- ").unwrap_or(counted) };
    let description = if description.trim().is_empty() { "(unnamed)" } else { description.trim() };
    Some((is_ok || is_expected, description))
}
