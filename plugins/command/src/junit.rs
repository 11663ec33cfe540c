//! Reads the JUnit reports that a program wrote. The format has no standard. What the runners of all languages agree on is
//! read, and unknown elements and attributes are ignored.

use std::time::Duration;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use stagewright_sdk::test_reports::{TestCase, TestOutcome};
use stagewright_sdk::text::count;
use stagewright_sdk::{Error, Position, Result, WorkspacePath, workspace};

/// The most reports that are read.
const REPORTS: usize = 1000;
/// The most bytes of a report.
const REPORT_SIZE: u64 = 32 << 20;
/// The most bytes of a message, and of what a test printed.
const TEXT: usize = 16 << 10;
/// How deeply suites may be nested.
const DEPTH: usize = 64;

/// The cases of all reports that match the patterns; none if no file does.
///
/// # Errors
/// When a report can't be read, is too large, or isn't XML.
pub(crate) fn read(patterns: &[WorkspacePath]) -> Result<Option<Vec<TestCase>>> {
    let mut files = Vec::new();
    for pattern in patterns {
        files.extend(workspace::glob(pattern)?.into_iter().filter(|entry| !entry.folder));
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files.dedup_by(|one, other| one.path == other.path);
    if files.len() > REPORTS {
        return Err(Error::failed(format!(
            "`junit` matches {}; at most {REPORTS} are read",
            count(files.len() as u64, "file")
        )));
    }
    let mut cases = Vec::new();
    for file in &files {
        let unreadable = |error: Error| error.context(format!("can't read the test report `{}`", file.path));
        if file.size > REPORT_SIZE {
            return Err(unreadable(Error::failed(format!("it has more than {REPORT_SIZE} bytes"))));
        }
        cases.extend(
            parse(&workspace::read(&file.path)?).map_err(|error| unreadable(Error::failed(error.to_string())))?,
        );
    }
    Ok((!files.is_empty()).then_some(cases))
}

/// The cases of a report.
fn parse(text: &[u8]) -> std::result::Result<Vec<TestCase>, quick_xml::Error> {
    let text = String::from_utf8_lossy(text);
    let mut reader = Reader::from_str(&text);
    reader.config_mut().expand_empty_elements = true;
    let mut state = ReportState::default();
    loop {
        match reader.read_event()? {
            Event::Start(element) => state.begin(&element),
            Event::End(element) => state.end(element.local_name().as_ref()),
            Event::Text(text) => state.text(&text.xml10_content()?),
            Event::CData(text) => state.text(&text.decode()?),
            Event::GeneralRef(reference) => {
                let name = reference.decode()?;
                let letter = reference.resolve_char_ref().ok().flatten().map(String::from);
                let letter = letter.or_else(|| quick_xml::escape::resolve_predefined_entity(&name).map(str::to_owned));
                state.text(&letter.unwrap_or_default());
            }
            Event::Eof => return Ok(state.cases),
            _ => {}
        }
    }
}

#[derive(Default)]
struct ReportState {
    cases: Vec<TestCase>,
    /// The names of the suites around the next case.
    suites: Vec<String>,
    /// The case that is open, with its text.
    case: Option<TestCase>,
    /// The text of the failure that is open.
    body: String,
    /// What the text of the innermost element is for.
    text: Option<TextKind>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TextKind {
    Message,
    Output,
}

impl ReportState {
    fn begin(&mut self, element: &BytesStart<'_>) {
        match element.local_name().as_ref() {
            b"testsuite" if self.suites.len() < DEPTH => {
                self.suites.push(attribute(element, "name").unwrap_or_default());
            }
            b"testcase" => self.case = Some(self.new_case(element)),
            b"failure" => self.fail(element, TestOutcome::Failed),
            b"error" => self.fail(element, TestOutcome::Errored),
            b"skipped" => self.fail(element, TestOutcome::Skipped),
            b"rerunFailure" | b"rerunError" | b"flakyFailure" | b"flakyError" => {
                self.case.iter_mut().for_each(|case| case.failures += 1);
            }
            b"system-out" | b"system-err" => self.text = Some(TextKind::Output),
            _ => {}
        }
    }

    fn new_case(&self, element: &BytesStart<'_>) -> TestCase {
        let class = attribute(element, "classname").filter(|class| !class.is_empty());
        let suite = class.or_else(|| self.suites.last().cloned()).unwrap_or_default();
        let mut case = TestCase::new(suite, attribute(element, "name").unwrap_or_default(), TestOutcome::Passed);
        let seconds = attribute(element, "time").and_then(|time| time.replace(',', "").parse().ok());
        case.duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let line = attribute(element, "line").and_then(|line| line.parse().ok()).filter(|line| *line > 0);
        case.file = attribute(element, "file").map(|file| (file, line.map(Position::line)));
        case
    }

    /// The outcome of the case that is open; the first one counts.
    fn fail(&mut self, element: &BytesStart<'_>, outcome: TestOutcome) {
        self.text = None;
        let Some(case) = self.case.as_mut().filter(|case| case.outcome == TestOutcome::Passed) else { return };
        case.outcome = outcome;
        case.message = attribute(element, "message").or_else(|| attribute(element, "type"));
        self.text = Some(TextKind::Message);
    }

    fn text(&mut self, text: &str) {
        let (Some(case), Some(kind)) = (&mut self.case, self.text) else { return };
        let kept = match kind {
            TextKind::Message => &mut self.body,
            TextKind::Output => case.output.get_or_insert_default(),
        };
        let room = TEXT.saturating_sub(kept.len());
        kept.push_str(&text[..text.floor_char_boundary(room)]);
    }

    /// Adds the text of a failure to its attribute, which often is only the beginning of the text.
    fn end_message(&mut self) {
        let body = std::mem::take(&mut self.body);
        let Some(case) = self.case.as_mut().filter(|_| !body.trim().is_empty()) else { return };
        case.message = Some(match case.message.take() {
            Some(message) if !body.trim_start().starts_with(message.trim()) => format!("{message}\n{}", body.trim()),
            _ => body.trim().to_owned(),
        });
    }

    fn end(&mut self, name: &[u8]) {
        match name {
            b"testsuite" => drop(self.suites.pop()),
            b"testcase" => {
                let Some(mut case) = self.case.take() else { return };
                // What passed tests printed would fill the journal.
                let is_failure = matches!(case.outcome, TestOutcome::Failed | TestOutcome::Errored);
                case.output = case.output.filter(|output| is_failure && !output.trim().is_empty());
                case.message = case.message.map(|message| message.trim().to_owned()).filter(|text| !text.is_empty());
                self.cases.push(case);
            }
            b"failure" | b"error" | b"skipped" => {
                self.text = None;
                self.end_message();
            }
            b"system-out" | b"system-err" => self.text = None,
            _ => {}
        }
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let value = element.try_get_attribute(name).ok()??;
    let value = value.normalized_value(quick_xml::XmlVersion::Implicit1_0).ok()?;
    Some(value[..value.floor_char_boundary(TEXT)].to_owned())
}
