//! What there is to say about a file, as people and as programs read it.

use std::io::Write;

use miette::{GraphicalReportHandler, GraphicalTheme};
use serde_json::{Value as Json, json};
use stagewright_model::Diagnostic;

use crate::args::Global;
use crate::screen;

/// Renders diagnostics, each with its place underlined.
pub(crate) fn show<'a>(global: &Global, diagnostics: impl IntoIterator<Item = &'a Diagnostic>) {
    let theme = if screen::colors(global) { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(screen::width()).with_links(false);
    let mut text = String::new();
    for diagnostic in diagnostics {
        if handler.render_report(&mut text, diagnostic).is_ok() {
            text.push('\n');
        }
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// As JSON, for programs.
pub(crate) fn as_json(diagnostic: &Diagnostic) -> Json {
    let (line, column) = diagnostic.position();
    json!({
        "file": diagnostic.file(),
        "line": line,
        "column": column,
        "code": diagnostic.code(),
        "severity": if diagnostic.is_warning() { "warning" } else { "error" },
        "message": diagnostic.message(),
        "help": diagnostic.help(),
    })
}
