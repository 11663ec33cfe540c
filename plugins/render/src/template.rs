//! Fills in templates.

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use serde_json::Value as Json;
use stagewright_sdk::{Error, Position, Result, workspace};

use crate::format::Format;
use crate::mistake::Mistake;

/// How many steps a template may take, so that a loop ends.
const MOST_STEPS: u64 = 10_000_000;

/// Templates, and the values that they are filled in with.
pub(crate) struct Templates<'a> {
    environment: Environment<'a>,
    values: minijinja::Value,
}

impl<'a> Templates<'a> {
    /// `delimiters`: what encloses a value, if not `{{` and `}}`.
    pub(crate) fn new(values: &Json, delimiters: Option<(&str, &str)>) -> Templates<'a> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(MOST_STEPS));
        let (open, close) = delimiters.unwrap_or(("{{", "}}"));
        // Delimiters that can't be used were refused before the run.
        if let Ok(syntax) = syntax(open, close) {
            environment.set_syntax(syntax);
        }
        Templates { environment, values: minijinja::Value::from(minijinja::value::Serde(values)) }
    }

    /// The text for `path` of the template `file`.
    pub(crate) fn fill(&self, file: &str, text: &str, path: &str) -> std::result::Result<String, Mistake> {
        let filled = self.environment.render_named_str(file, text, self.values.clone()).map_err(|error| {
            let line = error.line().and_then(|line| u32::try_from(line).ok());
            let excerpt = error.range().and_then(|range| text.get(range)).map(|it| format!("`{}`: ", it.trim()));
            let (message, help) = match error.kind() {
                ErrorKind::UndefinedError => (
                    "no layer has a value for it".to_owned(),
                    "add it to a layer, or write `| default(…)` in the template",
                ),
                kind => (error.detail().map_or_else(|| kind.to_string(), str::to_owned), "correct the template"),
            };
            Mistake {
                file: file.to_owned(),
                position: line.map(Position::line),
                message: format!("{}{message}", excerpt.unwrap_or_default()),
                help: help.to_owned(),
            }
        })?;
        match Format::of(path).map(|format| format.check(&filled)) {
            Some(Err((line, reason))) => Err(Mistake {
                file: file.to_owned(),
                position: None,
                message: format!(
                    "the rendered `{path}` is invalid{}: {reason}",
                    line.map(|line| format!(" in line {line}")).unwrap_or_default()
                ),
                help: "write a value that has special characters as `| tojson`".to_owned(),
            }),
            _ => Ok(filled),
        }
    }
}

/// The syntax of templates with other delimiters of values.
pub(crate) fn syntax(open: &str, close: &str) -> std::result::Result<SyntaxConfig, String> {
    let mut builder = SyntaxConfig::builder();
    builder.variable_delimiters(open.to_owned(), close.to_owned());
    // A block on a line of its own leaves no empty line.
    builder.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    builder.build().map_err(|error| error.detail().unwrap_or("they are ambiguous").to_owned())
}

/// The template files that a path or a glob names, each with the path of what is rendered.
pub(crate) fn files(from: &str, to: &str) -> Result<Vec<(String, String)>> {
    let Some(wildcard) = from.find(['*', '?', '[', '{']) else { return Ok(vec![(from.to_owned(), to.to_owned())]) };
    let folder = from[..wildcard].rfind('/').map_or(0, |slash| slash + 1);
    let found: Vec<(String, String)> = workspace::glob(from)?
        .into_iter()
        .filter(|entry| !entry.folder)
        .map(|entry| {
            let path = format!("{to}/{}", &entry.path[folder..]);
            (entry.path, path)
        })
        .collect();
    if found.is_empty() {
        return Err(Error::invalid(format!("`{from}` matches no file")).help("correct `from` of `templates`"));
    }
    Ok(found)
}
