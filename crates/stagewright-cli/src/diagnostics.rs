//! Diagnostics of a pipeline file, for people and as JSON.

use std::fmt::Display;

use miette::{
    Diagnostic as Report, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    Severity, SourceCode, SourceSpan, SpanContents,
};
use stagewright_api as api;
use stagewright_model::{Diagnostic, is_invisible};
use stagewright_report::{Block, Printable};

use crate::console;
use crate::global::ColorChoice;

/// Shows diagnostics on standard error, each with its location underlined.
pub(crate) fn show<'a>(color: ColorChoice, diagnostics: impl IntoIterator<Item = &'a Diagnostic>) {
    console::show(&rendered(diagnostics, console::colors(color), console::width()));
}

fn rendered<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>, color: bool, width: usize) -> Block {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false);
    let mut text = String::new();
    let mut source: Option<EscapedSource<'_>> = None;
    for diagnostic in diagnostics {
        // Consecutive diagnostics are usually about the same file, which then needs to be escaped only once.
        let known = source.take().filter(|source| source.is_of(diagnostic));
        let source = source.insert(known.unwrap_or_else(|| EscapedSource::of(diagnostic)));
        let shown = EscapedDiagnostic { diagnostic, source };
        if handler.render_report(&mut text, &shown).is_ok() {
            text.push('\n');
        }
    }
    Block::styled(&text)
}

/// A diagnostic with all texts and the source file escaped, since miette lays them out verbatim.
struct EscapedDiagnostic<'a> {
    diagnostic: &'a Diagnostic,
    source: &'a EscapedSource<'a>,
}

impl std::fmt::Debug for EscapedDiagnostic<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.diagnostic, f)
    }
}

impl Display for EscapedDiagnostic<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Display::fmt(&Printable::new(self.diagnostic), f)
    }
}

impl std::error::Error for EscapedDiagnostic<'_> {}

impl Report for EscapedDiagnostic<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        Some(Box::new(self.diagnostic.code()))
    }

    fn severity(&self) -> Option<Severity> {
        self.diagnostic.severity()
    }

    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        self.diagnostic.help().map(|help| Box::new(Printable::new(help)) as Box<dyn Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = self.diagnostic.labels()?;
        Some(Box::new(labels.map(|label| {
            let (start, end) = (label.offset(), label.offset() + label.len());
            let (start, end) = (self.source.shown_offset(start), self.source.shown_offset(end));
            let words = label.label().map(|words| Printable::new(words).as_str().to_owned());
            match label.primary() {
                true => LabeledSpan::new_primary_with_span(words, start..end),
                false => LabeledSpan::new_with_span(words, start..end),
            }
        })))
    }
}

/// A file with every invisible character replaced by a visible one of the same width as an ordinary character, so that
/// underlined locations stay aligned.
#[derive(Debug)]
struct EscapedSource<'a> {
    name: String,
    original: &'a str,
    shown: String,
    /// For each replaced character, the offset after it in the file and in `shown`, in bytes.
    changes: Vec<(usize, usize)>,
}

impl<'a> EscapedSource<'a> {
    fn of(diagnostic: &'a Diagnostic) -> EscapedSource<'a> {
        let original = diagnostic.text();
        let mut shown = String::with_capacity(original.len());
        let mut changes = Vec::new();
        let mut rest = original.char_indices().peekable();
        while let Some((at, character)) = rest.next() {
            let ends_line = character == '\n' || character == '\r' && rest.peek().is_some_and(|next| next.1 == '\n');
            if ends_line || character == '\t' || !is_invisible(character) {
                shown.push(character);
                continue;
            }
            shown.push(picture(character));
            changes.push((at + character.len_utf8(), shown.len()));
        }
        let name = Printable::new(diagnostic.file()).as_str().to_owned();
        EscapedSource { name, original, shown, changes }
    }

    fn is_of(&self, diagnostic: &Diagnostic) -> bool {
        std::ptr::eq(self.original, diagnostic.text())
    }

    /// Converts an offset in the file to one in `shown`.
    fn shown_offset(&self, offset: usize) -> usize {
        let before = self.changes.partition_point(|(in_file, _)| *in_file <= offset);
        before.checked_sub(1).map_or(offset, |last| {
            let (in_file, in_shown) = self.changes[last];
            in_shown + (offset - in_file)
        })
    }
}

impl SourceCode for EscapedSource<'_> {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let read = self.shown.as_str().read_span(span, lines_before, lines_after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            read.data(),
            *read.span(),
            read.line(),
            read.column(),
            read.line_count(),
        )))
    }
}

/// The character of Unicode's block "Control Pictures" for a control character; the replacement character for others.
fn picture(character: char) -> char {
    match character {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(character)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\u{7f}' => '␡',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// The JSON form of a diagnostic.
pub(crate) fn entry(diagnostic: &Diagnostic) -> api::DiagnosticEntry {
    let (line, column) = diagnostic.position();
    api::DiagnosticEntry {
        file: diagnostic.file().to_owned(),
        line: line as u64,
        column: column as u64,
        code: diagnostic.code().to_owned(),
        severity: if diagnostic.is_warning() { api::Severity::Warning } else { api::Severity::Error },
        message: diagnostic.message().to_owned(),
        help: diagnostic.help().map(str::to_owned),
        stage: None,
        path: None,
    }
}

#[cfg(test)]
mod tests {
    use stagewright_model::Plan;

    use super::*;

    #[test]
    fn invisible_characters_are_replaced_and_the_location_stays_aligned() {
        let text = "schema = 1\npipeline.name = \"p\"\n[stages]\n\
                    a = { uses = \"no\u{202e}\u{200b}\u{9b}op\\u001b\", needs = [\"b\\u001b\\nx\"] }\n";
        let mistakes = Plan::parse("a\u{1b}\nb.toml", text, &Default::default()).unwrap_err();
        let shown = rendered(&mistakes, false, 100);
        let is_hidden = |character| is_invisible(character) && character != '\n';
        assert!(!shown.as_str().contains(is_hidden), "{}", shown.as_str());
        let (line, underlined) = last_place(shown.as_str(), "needs = ");
        let columns = underlined.chars().position(|character| "─┬▲".contains(character)).unwrap();
        assert_eq!(line.chars().skip(columns).take(2).collect::<String>(), "\"b", "{}", shown.as_str());
    }

    /// The last line that has `words`, and the one below it.
    fn last_place<'a>(shown: &'a str, words: &str) -> (&'a str, &'a str) {
        let lines: Vec<&str> = shown.lines().collect();
        let at = lines.iter().rposition(|line| line.contains(words)).unwrap();
        (lines[at], lines[at + 1])
    }
}
