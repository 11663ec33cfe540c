//! Rejects expressions inside code.
//!
//! A script that contains `${{ git.branch }}` executes the name of the branch. No way of quoting keeps a branch called
//! `x$(rm -rf .)` from being executed in every shell, in here-documents and where words are split. Text that doesn't
//! come from the pipeline file is therefore rejected in code. Numbers, booleans, declared choices, matrix values and
//! literals are allowed: the pipeline file determines their content, not the user or event that starts the run.
//!
//! Code is found in three ways: plugins mark their own keys ([`places`]), argument lists name an interpreter
//! ([`interpreter`]), and some variables are executed by programs ([`variable`]).

mod interpreter;
mod places;
mod variable;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use self::interpreter::Argument;
use self::places::Role;
use crate::diagnostic::{Diagnostics, Problem, Report};
use crate::expression::{Expression, JsonTemplate, Template, ValueSource};
use crate::plan::{InputKind, Plan, Stage};
use crate::read::Places;
use crate::span::SourceSpan;
use crate::value_path::{PathStep, ValuePath};

impl Plan {
    /// Rejects text from outside of the pipeline file in code that stages execute. `text` is the text of the pipeline
    /// file; `schemas` are the JSON Schemas of the plugins' `with` tables by plan index, null if a plugin has none.
    ///
    /// # Errors
    /// A diagnostic for each expression in code that can hold arbitrary text.
    pub fn check_code<'a>(
        &self,
        file_name: &str,
        text: &str,
        schemas: impl IntoIterator<Item = &'a Json>,
    ) -> Result<(), Diagnostics> {
        let mut report = Report::new(file_name, text);
        // Parsing the text again is only worthwhile for an error's place, and most files have no errors.
        let mut places = None;
        let mut seen = BTreeSet::new();
        for (stage, schema) in self.stages.iter().zip(schemas) {
            // All cells of a matrix have the same configuration.
            if !seen.insert((stage.kind as u8, &stage.name)) {
                continue;
            }
            let rehearsed = stage.rehearse.as_ref().and_then(|rehearse| rehearse.with.as_deref());
            let own = [("with", &*stage.with)].into_iter();
            for (table, config) in own.chain(rehearsed.map(|config| ("rehearse.with", config))) {
                for found in (CheckedTable { plan: self, stage, table }).code(config, schema) {
                    let places = places.get_or_insert_with(|| Places::parse(text));
                    report.error(|| found.problem(stage, text, places));
                }
            }
            for found in (CheckedTable { plan: self, stage, table: "env" }).variables() {
                let places = places.get_or_insert_with(|| Places::parse(text));
                report.error(|| found.problem(stage, text, places));
            }
        }
        report.finish(Some(())).map(|_| ())
    }
}

/// An expression in code that can hold text from outside of the pipeline file.
struct CodeExpression<'a> {
    /// See [`CheckedTable::table`].
    table: &'static str,
    path: ValuePath,
    expression: Expression,
    /// Byte offset of the expression in the string's value.
    offset: usize,
    source: ValueSource,
    stage: &'a Stage,
}

/// A table of a stage that is searched for code.
struct CheckedTable<'a> {
    plan: &'a Plan,
    stage: &'a Stage,
    /// `with`, `rehearse.with` (which replaces `with` in a rehearsal) or `env`.
    table: &'static str,
}

impl<'a> CheckedTable<'a> {
    /// Finds the expressions in code of a `with` table. Sorted by path.
    fn code(&self, config: &JsonTemplate, schema: &Json) -> Vec<CodeExpression<'a>> {
        let source = config.source();
        let marked = places::marked(schema, source);
        // `texts` are the paths of values that are code. `reading` are the paths of tables with a command line that
        // reads code from standard input, such as `["sh"]`: in such a table, the value that the plugin marks as
        // standard input is code too. In `{ argv = ["cat"], stdin = … }` it is data. The lists have to be searched
        // before the marks for this.
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
                // Nothing is known of a list that is an expression as a whole.
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

    /// Finds the expressions in those of the stage's variables that programs execute. Sorted by name.
    fn variables(&self) -> Vec<CodeExpression<'a>> {
        let executed = self.stage.env.iter().filter(|(name, _)| variable::is_executed(name));
        executed.flat_map(|(name, value)| self.expressions(&ValuePath::default().key(name), value)).collect()
    }

    fn code_of_list(&self, config: &JsonTemplate, path: &ValuePath, items: &[Json]) -> interpreter::CodePositions {
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
        interpreter::find_code(&arguments.collect::<Vec<_>>())
    }

    /// The expressions of a string that can hold text from outside of the pipeline file.
    fn expressions(&self, path: &ValuePath, template: &Template) -> Vec<CodeExpression<'a>> {
        let open = template.located_expressions().filter_map(|(expression, offset)| {
            let source = expression.sources().iter().find(|source| !self.is_fixed_by_file(source))?;
            let (expression, source) = (expression.clone(), source.clone());
            Some(CodeExpression {
                table: self.table,
                path: path.clone(),
                expression,
                offset,
                source,
                stage: self.stage,
            })
        });
        open.collect()
    }

    /// Whether the pipeline file determines all text that the value can hold.
    fn is_fixed_by_file(&self, source: &ValueSource) -> bool {
        let path: Vec<&str> = source.path.iter().map(String::as_str).collect();
        match (source.root.as_str(), path.as_slice()) {
            // The values of a matrix, of a region and of an environment, and the pipeline's name, are literals in the file.
            ("matrix" | "region" | "environments" | "pipeline", _) => true,
            // The id consists of digits and letters chosen by the engine, `rehearsal` is a boolean, and `result` is one
            // of a fixed set of words.
            ("run", _) => true,
            ("git", ["dirty"]) => true,
            ("inputs", [name]) => self.plan.inputs.get(*name).is_some_and(|input| match &input.kind {
                InputKind::Number | InputKind::Boolean | InputKind::Choice(_) => true,
                InputKind::String => false,
            }),
            ("stages", [_, "result" | "outcome" | "attempts"]) => true,
            // A variable is fixed if everything in its value is. Variables can't read other variables, so a reference
            // to `env` in its value is an error elsewhere. It counts as open here, and the recursion is never deeper
            // than one level.
            ("env", [name]) => self.stage.env.get(*name).is_some_and(|value| {
                let mut sources = value.expressions().flat_map(Expression::sources);
                sources.all(|source| source.root != "env" && self.is_fixed_by_file(source))
            }),
            _ => false,
        }
    }
}

impl CodeExpression<'_> {
    fn problem(&self, stage: &Stage, text: &str, places: &Places<'_>) -> Problem {
        let span = places.value(stage, self.table, &self.path).map_or(stage.location, |string| SourceSpan {
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

    /// Suggests the line to write instead.
    fn help(&self) -> String {
        if let ("env", [name]) = (self.source.root.as_str(), self.source.path.as_slice()) {
            return format!("`{name}` is a variable of the stage: read it as `\"${name}\"` in the script");
        }
        let last = self.source.path.last().map_or(self.source.root.as_str(), String::as_str);
        let name = variable_named(last);
        let quote = if self.expression.source().contains('"') { '\'' } else { '"' };
        format!(
            "pass it as data: add `env = {{ {name} = {quote}${{{{ {} }}}}{quote} }}` to [{}], and write `\"${name}\"` in \
             its place (numbers, booleans and declared choices are allowed: for a number, `int(…)`)",
            self.expression.source(),
            self.stage.table()
        )
    }
}

/// The variable name for an output or input: `image-digest` becomes `IMAGE_DIGEST`.
fn variable_named(name: &str) -> String {
    let upper =
        name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' });
    let upper: String = upper.collect();
    if upper.starts_with(|first: char| first.is_ascii_digit()) { format!("_{upper}") } else { upper }
}

fn at<'v>(table: &'v Json, path: &ValuePath) -> Option<&'v Json> {
    path.0.iter().try_fold(table, |value, step| match step {
        PathStep::Key(key) => value.get(key),
        PathStep::Index(index) => value.get(index),
    })
}

/// Visits the variables that programs execute, in every table called `env`.
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

/// Visits every list that begins with a string, at any depth: unmarked lists can be argument lists too.
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
