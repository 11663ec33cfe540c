//! Expressions inside code.
//!
//! A script that holds `${{ git.branch }}` is executed with whatever the branch is called: no quoting of the script keeps
//! `x$(rm -rf .)` apart from its own text in every shell, in here-documents and where words are split. So text that isn't
//! the pipeline file's own is refused in code. Numbers, booleans, declared choices, the values of a matrix and literals stay
//! allowed, since their content is fixed by the pipeline file, not by what starts or triggers a run.
//!
//! What is code is said by plugins of their own keys ([`places`]), and known of argument lists that name an interpreter
//! ([`interpreter`]) and of variables ([`variable`]).

mod interpreter;
mod places;
mod variable;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use self::interpreter::Argument;
use self::places::Role;
use crate::diagnostic::{Diagnostics, Problem, Report};
use crate::expression::{Expression, JsonTemplate, Source, Template};
use crate::plan::{InputKind, Plan, Stage};
use crate::read::Places;
use crate::span::SourceSpan;
use crate::value_path::{Step, ValuePath};

impl Plan {
    /// Refuses text from outside in what stages execute. `text` is that of the pipeline file; `schemas` are those of the
    /// plugins' `with` tables, by plan index: null where a plugin gives none.
    ///
    /// # Errors
    /// All such places.
    pub fn check_code<'a>(
        &self,
        file_name: &str,
        text: &str,
        schemas: impl IntoIterator<Item = &'a Json>,
    ) -> Result<(), Diagnostics> {
        let mut report = Report::new(file_name, text);
        // Most files have nothing to be placed.
        let mut places = None;
        let mut seen = BTreeSet::new();
        for (stage, schema) in self.stages.iter().zip(schemas) {
            // The cells of a matrix are configured alike.
            if !seen.insert((stage.kind as u8, &stage.name)) {
                continue;
            }
            let rehearsed = stage.rehearse.as_ref().and_then(|rehearse| rehearse.with.as_deref());
            let own = [("with", &*stage.with)].into_iter();
            for (table, config) in own.chain(rehearsed.map(|config| ("rehearse.with", config))) {
                for found in (Checked { plan: self, stage, table }).code(config, schema) {
                    let places = places.get_or_insert_with(|| Places::of(text));
                    report.error(|| found.problem(stage, text, places));
                }
            }
            for found in (Checked { plan: self, stage, table: "env" }).variables() {
                let places = places.get_or_insert_with(|| Places::of(text));
                report.error(|| found.problem(stage, text, places));
            }
        }
        report.finish(Some(())).map(|_| ())
    }
}

/// An expression in code.
struct Found<'a> {
    /// As in [`Checked`].
    table: &'static str,
    path: ValuePath,
    expression: Expression,
    /// Where in the string's value it starts.
    offset: usize,
    source: Source,
    stage: &'a Stage,
}

struct Checked<'a> {
    plan: &'a Plan,
    stage: &'a Stage,
    /// `with`, what takes its place in a rehearsal (`rehearse.with`), or `env`.
    table: &'static str,
}

impl<'a> Checked<'a> {
    /// In the order of their places.
    fn code(&self, config: &JsonTemplate, schema: &Json) -> Vec<Found<'a>> {
        let source = config.source();
        let marked = places::marked(schema, source);
        let mut texts: BTreeSet<ValuePath> = BTreeSet::new();
        let mut reading: BTreeSet<ValuePath> = BTreeSet::new();
        lists(source, &ValuePath::default(), &mut |path, items| {
            let code = self.code_of_list(config, path, items);
            texts.extend(code.arguments.into_iter().map(|position| path.index(position)));
            reading.extend(code.stdin.then(|| path.parent()));
        });
        for (path, role) in marked {
            let is_list = at(source, &path).is_some_and(Json::is_array);
            let is_code = match role {
                Role::Text => true,
                // Of a list that is an expression as a whole nothing is known.
                Role::Argv => !is_list,
                Role::Stdin => reading.contains(&path.parent()),
            };
            if is_code {
                texts.insert(path);
            }
        }
        variables(source, &ValuePath::default(), &mut |path| {
            texts.insert(path);
        });
        let mut found = BTreeMap::new();
        for path in texts {
            for (path, template) in config.templates_below(&path) {
                found.entry(path.clone()).or_insert_with(|| self.expressions(path, template));
            }
        }
        found.into_values().flatten().collect()
    }

    /// The stage's own variables that programs execute, in order.
    fn variables(&self) -> Vec<Found<'a>> {
        let executed = self.stage.env.iter().filter(|(name, _)| variable::is_executed(name));
        executed.flat_map(|(name, value)| self.expressions(&ValuePath::default().key(name), value)).collect()
    }

    fn code_of_list(&self, config: &JsonTemplate, path: &ValuePath, items: &[Json]) -> interpreter::Code {
        let arguments = items.iter().enumerate().map(|(index, item)| {
            let path = path.index(index);
            let text = item.as_str().unwrap_or_default();
            let template = config.template_at(&path);
            match template.and_then(|template| self.expressions(&path, template).into_iter().next()) {
                None => Argument { known: text, is_open: false },
                Some(first) => {
                    let marker = text[..first.offset].rfind(crate::expression::MARKER).unwrap_or(0);
                    Argument { known: &text[..marker], is_open: true }
                }
            }
        });
        interpreter::code(&arguments.collect::<Vec<_>>())
    }

    /// The expressions of a string whose text may come from outside.
    fn expressions(&self, path: &ValuePath, template: &Template) -> Vec<Found<'a>> {
        let open = template.located_expressions().filter_map(|(expression, offset)| {
            let source = expression.sources().iter().find(|source| !self.is_of_the_file(source))?;
            let (expression, source) = (expression.clone(), source.clone());
            Some(Found { table: self.table, path: path.clone(), expression, offset, source, stage: self.stage })
        });
        open.collect()
    }

    /// Whether a value can't be other text than the pipeline file says.
    fn is_of_the_file(&self, source: &Source) -> bool {
        let path: Vec<&str> = source.path.iter().map(String::as_str).collect();
        match (source.root.as_str(), path.as_slice()) {
            // A matrix has literals alone, and a pipeline's name is one.
            ("matrix" | "pipeline", _) => true,
            // An id that the engine makes of digits and letters, a flag, and one of the results there are.
            ("run", _) => true,
            ("git", ["dirty"]) => true,
            ("inputs", [name]) => self.plan.inputs.get(*name).is_some_and(|input| match &input.kind {
                InputKind::Number | InputKind::Boolean | InputKind::Choice(_) => true,
                InputKind::String => false,
            }),
            ("stages", [_, "result" | "outcome" | "attempts"]) => true,
            ("env", [name]) => self.stage.env.get(*name).is_some_and(|value| {
                let mut sources = value.expressions().flat_map(Expression::sources);
                sources.all(|source| source.root != "env" && self.is_of_the_file(source))
            }),
            _ => false,
        }
    }
}

impl Found<'_> {
    fn problem(&self, stage: &Stage, text: &str, places: &Places<'_>) -> Problem {
        let span = places.of_with(stage, self.table, &self.path).map_or(stage.location, |string| SourceSpan {
            start: crate::read::locate(text, string, self.offset),
            end: crate::read::locate(text, string, self.offset + self.expression.source().len()),
        });
        let message = format!(
            "{}.{} of [{}] is executed as code, and the expression `{}` can hold any text",
            self.table,
            self.path,
            stage.table(),
            self.expression.source()
        );
        Problem::new("stagewright::expression-in-code", span, message)
            .label("becomes part of the code")
            .help(self.help())
    }

    /// The line to write instead.
    fn help(&self) -> String {
        if let ("env", [name]) = (self.source.root.as_str(), self.source.path.as_slice()) {
            return format!("`{name}` is a variable of the stage: read it as `\"${name}\"` in the script");
        }
        let last = self.source.path.last().map_or(self.source.root.as_str(), String::as_str);
        let name = variable_named(last);
        let quote = if self.expression.source().contains('"') { '\'' } else { '"' };
        format!(
            "hand it over as data: add `env = {{ {name} = {quote}${{{{ {} }}}}{quote} }}` to [{}], and write `\"${name}\"` in \
             its place (numbers, booleans and declared choices may stay: for a number, `int(…)`)",
            self.expression.source(),
            self.stage.table()
        )
    }
}

/// `image-digest` is `IMAGE_DIGEST`.
fn variable_named(name: &str) -> String {
    let upper = name.chars().map(|one| if one.is_ascii_alphanumeric() { one.to_ascii_uppercase() } else { '_' });
    let upper: String = upper.collect();
    if upper.starts_with(|first: char| first.is_ascii_digit()) { format!("_{upper}") } else { upper }
}

fn at<'v>(table: &'v Json, path: &ValuePath) -> Option<&'v Json> {
    path.0.iter().try_fold(table, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

/// The variables of every table called `env` that programs execute.
fn variables(value: &Json, path: &ValuePath, visit: &mut dyn FnMut(ValuePath)) {
    let Json::Object(entries) = value else { return };
    for (key, entry) in entries {
        if let ("env", Json::Object(variables)) = (key.as_str(), entry) {
            let executed = variables.keys().filter(|name| variable::is_executed(name));
            executed.for_each(|name| visit(path.key(key).key(name)));
        }
        variables(entry, &path.key(key), visit);
    }
}

/// Every list that begins with a string, wherever it is: what a plugin doesn't mark may be an argument list all the same.
fn lists(value: &Json, path: &ValuePath, visit: &mut dyn FnMut(&ValuePath, &[Json])) {
    match value {
        Json::Array(items) => {
            if items.first().is_some_and(Json::is_string) {
                visit(path, items);
            }
            items.iter().enumerate().for_each(|(n, item)| lists(item, &path.index(n), visit));
        }
        Json::Object(entries) => entries.iter().for_each(|(key, entry)| lists(entry, &path.key(key), visit)),
        _ => {}
    }
}
