//! Mistakes in a pipeline file, each with its place in the text and a remedy.

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;

use miette::{LabeledSpan, NamedSource, Severity, SourceCode};

use crate::span::SourceSpan;

/// The most errors, and the most warnings, that are kept for a file. Further errors are only counted.
const MAX_SHOWN: usize = 100;

/// One mistake.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    code: &'static str,
    severity: Severity,
    message: String,
    help: Option<String>,
    labels: Vec<(SourceSpan, String)>,
    source: Arc<NamedSource<String>>,
}

impl Diagnostic {
    /// The kind of mistake, such as `stagewright::unknown-key`. Codes are stable between versions.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Whether the file can be used despite the mistake.
    pub fn is_warning(&self) -> bool {
        self.severity != Severity::Error
    }

    /// What is wrong: one sentence, without a full stop.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How to fix it.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The file's name, as passed to [`Plan::parse`](crate::Plan::parse).
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// The file's text.
    pub fn text(&self) -> &str {
        self.source.inner()
    }

    /// Where in the file's text the mistake is.
    pub fn span(&self) -> SourceSpan {
        self.labels.first().map(|(span, _)| *span).unwrap_or_default()
    }

    /// 1-based line and column, the latter in characters.
    pub fn position(&self) -> (usize, usize) {
        let text = self.source.inner();
        let before = text.get(..self.span().start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source.as_ref())
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let mut is_primary = true;
        Some(Box::new(self.labels.iter().map(move |(span, label)| {
            let place = span.start..span.end;
            let label = (!label.is_empty()).then(|| label.clone());
            match std::mem::take(&mut is_primary) {
                true => LabeledSpan::new_primary_with_span(label, place),
                false => LabeledSpan::new_with_span(label, place),
            }
        })))
    }
}

/// All mistakes in one pipeline file, sorted by their places.
#[derive(Clone, Debug)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Iterates over the mistakes, sorted by their places.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0.first().map_or("the pipeline file", Diagnostic::file);
        match self.0.iter().filter(|diagnostic| !diagnostic.is_warning()).count() {
            1 => write!(f, "{file} has a mistake"),
            count => write!(f, "{file} has {count} mistakes"),
        }
    }
}

impl std::error::Error for Diagnostics {}

impl miette::Diagnostic for Diagnostics {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(self.0.iter().map(|diagnostic| diagnostic as &dyn miette::Diagnostic)))
    }
}

/// A diagnostic that isn't assigned to a file and a severity yet; see [`Report::error`].
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    code: &'static str,
    message: String,
    help: Option<String>,
    labels: Vec<(SourceSpan, String)>,
}

impl Problem {
    pub(crate) fn new(code: &'static str, span: SourceSpan, message: impl Into<String>) -> Problem {
        Problem { code, message: message.into(), help: None, labels: vec![(span, String::new())] }
    }

    /// Sets the text that is shown at the place itself.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Problem {
        self.labels[0].1 = label.into();
        self
    }

    /// Adds another place that has to do with the mistake.
    pub(crate) fn also(mut self, span: SourceSpan, label: impl Into<String>) -> Problem {
        self.labels.push((span, label.into()));
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
}

/// Collects the mistakes in a file while it is read.
pub(crate) struct Report<'t> {
    file_name: &'t str,
    text: &'t str,
    /// A copy of `text` that all diagnostics share. Made for the first of them, since most files have no mistakes.
    source: OnceCell<Arc<NamedSource<String>>>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    omitted: usize,
}

impl<'t> Report<'t> {
    pub(crate) fn new(file_name: &'t str, text: &'t str) -> Report<'t> {
        Report { file_name, text, source: OnceCell::new(), errors: Vec::new(), warnings: Vec::new(), omitted: 0 }
    }

    /// Adds an error. `problem` isn't called once [`MAX_SHOWN`] errors were added: searching for similar names takes
    /// time, which a file with thousands of errors would multiply.
    pub(crate) fn error(&mut self, problem: impl FnOnce() -> Problem) {
        if self.errors.len() < MAX_SHOWN {
            let diagnostic = self.diagnostic(problem(), Severity::Error);
            self.errors.push(diagnostic);
        } else {
            self.omitted += 1;
        }
    }

    pub(crate) fn warning(&mut self, problem: Problem) {
        if self.warnings.len() < MAX_SHOWN {
            let diagnostic = self.diagnostic(problem, Severity::Warning);
            self.warnings.push(diagnostic);
        }
    }

    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    fn diagnostic(&self, problem: Problem, severity: Severity) -> Diagnostic {
        let Problem { code, message, help, labels } = problem;
        let source = self.source.get_or_init(|| Arc::new(NamedSource::new(self.file_name, self.text.to_owned())));
        Diagnostic { code, severity, message, help, labels, source: Arc::clone(source) }
    }

    /// Returns what was read and the warnings if there are no errors. Otherwise returns only the errors: a warning may
    /// be a consequence of an error.
    pub(crate) fn finish<T>(mut self, read: Option<T>) -> Result<(T, Vec<Diagnostic>), Diagnostics> {
        if let (Some(read), true) = (read, self.errors.is_empty()) {
            self.warnings.sort_by_key(|diagnostic| diagnostic.span().start);
            return Ok((read, self.warnings));
        }
        self.errors.sort_by_key(|diagnostic| diagnostic.span().start);
        if self.omitted > 0 {
            let end = self.text.len();
            let message = match self.omitted {
                1 => "1 more mistake is not shown".to_owned(),
                omitted => format!("{omitted} more mistakes are not shown"),
            };
            // Reported at the end of the file, so that it is the last error.
            let problem = Problem::new("stagewright::more", SourceSpan { start: end, end }, message);
            self.errors.push(self.diagnostic(problem, Severity::Error));
        }
        Err(Diagnostics(self.errors))
    }
}
