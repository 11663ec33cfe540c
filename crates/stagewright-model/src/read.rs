//! Reads the text of a pipeline file into a [`Plan`].
//!
//! The text is parsed, checked against the description in [`crate::shape`], and read into drafts. The drafts are
//! ordered by their needs, all names are resolved, and matrices and regions are expanded. Only invalid TOML ends this
//! early: every other mistake is reported without stopping, so that a user sees all of them at once. Matrices and regions
//! are only expanded if there are no errors.

mod assemble;
mod cache;
mod compensate;
mod credentials;
mod fields;
mod freeze;
mod head;
mod locations;
mod lock;
mod matrix;
mod order;
mod pending;
mod permissions;
mod place;
mod policy;
mod references;
mod regions;
mod stage;
mod targets;
mod teams;
mod uses;

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::assemble::{CheckedFile, assemble};
use self::fields::{At, Fields};
pub(crate) use self::locations::Places;
use self::permissions::PermissionSets;
pub(crate) use self::place::locate;
use self::references::KnownNames;
use self::stage::{Draft, StageDefaults};
use self::uses::Uses;
use crate::diagnostic::{Diagnostic, Diagnostics, Problem, Report};
use crate::nearest::nearest;
use crate::plan::{Plan, StageKind};
use crate::shape;
use crate::span::SourceSpan;

/// The names of the built-in plugins, which `uses` may contain without a scheme.
#[derive(Clone, Debug, Default)]
pub struct PluginNames(BTreeSet<String>);

impl PluginNames {
    fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(String::as_str)
    }
}

impl<T: Into<String>> FromIterator<T> for PluginNames {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> PluginNames {
        PluginNames(names.into_iter().map(Into::into).collect())
    }
}

impl Plan {
    /// Parses a pipeline file. `file_name` is its name in diagnostics; `plugins` are the built-in plugins. Returns the
    /// plan and the warnings.
    ///
    /// # Errors
    /// If the file has mistakes: all of them.
    pub fn parse(file_name: &str, text: &str, plugins: &PluginNames) -> Result<(Plan, Vec<Diagnostic>), Diagnostics> {
        let mut report = Report::new(file_name, text);
        let plan = read(text, plugins, &mut report);
        report.finish(plan)
    }
}

/// None if there are errors.
fn read(text: &str, plugins: &PluginNames, report: &mut Report) -> Option<Plan> {
    // The parsed document takes more memory than the plan. `check` frees it before the plan is assembled.
    let checked = check(text, plugins, report)?;
    assemble(text, checked, report)
}

fn check(text: &str, plugins: &PluginNames, report: &mut Report) -> Option<CheckedFile> {
    let document = document(text, report)?;
    shape::check(&shape::FILE, "the pipeline file", document.get_ref(), report);
    let file = Fields::new(document.get_ref());
    let mut uses = Uses::new(text);
    let head = head::read(file, &mut uses, report);
    let pipeline_uses = uses.drain();
    let sets = PermissionSets::new(file);
    let defaults = StageDefaults::read(file.table("defaults"), head.env.clone(), &sets, report);
    let mut drafts = Vec::new();
    for (table, kind) in [("stages", StageKind::Main), ("finally", StageKind::Finally)] {
        let entries = file.table(table).entries().into_iter().filter(|(_, value)| value.get_ref().is_table());
        drafts.extend(entries.map(|(name, value)| stage::read(name, value, kind, &defaults, &sets, &mut uses, report)));
    }
    report_no_stages(file, report);
    targets::check(file, plugins, report);
    targets::resolve(&mut drafts, file, report);
    let names = order::names(&drafts, report);
    let order = order::order(&drafts, &names, report);
    let known = KnownNames {
        file: text,
        head: &head,
        sets: &sets,
        defaults: file.table("defaults").table("permissions"),
        drafts: &drafts,
        names: &names,
        plugins,
    };
    let output_reads = references::check(&known, &pipeline_uses, &order, report);
    let compensate = compensate::resolve(&drafts, &names, &order, report);
    let groups = regions::groups(&drafts, &compensate, &order, file, &head.environments, report);
    teams::check(file, &head.teams, report);
    report_unused_sets(file, &sets, &drafts, report);
    pending::warn(file, report);
    if report.has_errors() {
        return None;
    }
    let tables = drafts.into_iter().map(|draft| (draft.stage, draft.matrix)).collect();
    let plan = Plan { output_reads, ..head.plan() };
    Some(CheckedFile { plan, tables, order, compensate, groups })
}

/// Parses the text. None if it isn't valid TOML.
fn document<'t>(text: &'t str, report: &mut Report) -> Option<Spanned<DeTable<'t>>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        report.error(|| syntax_problem(error, text));
    }
    // The parser recovers from errors, but checking what it recovered would report mistakes that the file doesn't have.
    let document = errors.is_empty().then_some(document)?;
    document.get_ref().values().for_each(|value| rounded_numbers(value, text, report));
    Some(document)
}

/// Warns of versions that are written as numbers and lose a trailing zero: `3.10` becomes 3.1.
fn rounded_numbers(value: &Spanned<DeValue<'_>>, text: &str, report: &mut Report) {
    match value.get_ref() {
        DeValue::Table(table) => table.values().for_each(|value| rounded_numbers(value, text, report)),
        DeValue::Array(items) => items.iter().for_each(|value| rounded_numbers(value, text, report)),
        DeValue::Float(_) => {
            let written = &text[value.span()];
            let ends_in_zero = written.contains('.') && written.ends_with('0') && !written.ends_with(".0");
            if ends_in_zero && !written.contains(['e', 'E']) {
                let read = written.trim_end_matches('0');
                report.warning(
                    Problem::new(
                        "stagewright::rounded-number",
                        value.span().into(),
                        format!("`{written}` is a number and becomes {read} when it is used as text"),
                    )
                    .help(format!("if it is a version, write it as a string: \"{written}\"")),
                );
            }
        }
        _ => {}
    }
}

fn report_no_stages(file: Fields<'_>, report: &mut Report) {
    if let Some(stages) = file.get("stages")
        && file.table("stages").entries().is_empty()
        && stages.get_ref().is_table()
    {
        report.error(|| {
            Problem::new("stagewright::no-stages", stages.span().into(), "the pipeline has no stages")
                .help("add a stage: `[stages.test]` with `uses = \"cargo-test\"`")
        });
    }
}

fn report_unused_sets<'t>(file: Fields<'t>, sets: &PermissionSets<'t>, drafts: &[Draft<'t>], report: &mut Report) {
    let of_stages = drafts.iter().flat_map(|draft| draft.permissions());
    let tables: Vec<Fields<'t>> = of_stages.chain([file.table("defaults").table("permissions")]).collect();
    sets.warn_of_unused(&tables, report);
}

fn syntax_problem(error: &toml::de::Error, text: &str) -> Problem {
    // An error at the end of the text can have a span beyond it.
    let place = error.span().unwrap_or(text.len()..text.len());
    let place = SourceSpan { start: place.start.min(text.len()), end: place.end.min(text.len()) };
    if error.message() == "duplicate key" {
        let key = &text[place.start..place.end];
        let message =
            if key.is_empty() { "this key is defined twice".to_owned() } else { format!("`{key}` is defined twice") };
        return Problem::new("stagewright::duplicate-key", place, message)
            .label("defined again here")
            .help("remove one of the two definitions");
    }
    Problem::new("stagewright::syntax", place, "invalid TOML")
        .label(error.message())
        .help("put strings in quotes, lists in brackets, and each `key = value` on a line of its own")
}

/// The problem of a name that refers to nothing that `table` declares.
fn undeclared<'a>(what: &str, table: &str, name: At<&str>, declared: impl Iterator<Item = &'a str>) -> Problem {
    let help = match nearest(name.value, declared) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("declare it: `[{table}.{}]`", name.value),
    };
    let code = match what {
        "secret" => "stagewright::unknown-secret",
        "credential" => "stagewright::unknown-credential",
        _ => "stagewright::unknown-environment",
    };
    Problem::new(code, name.span, format!("the {what} `{}` isn't declared", name.value))
        .label(format!("unknown {what}"))
        .help(help)
}

/// Lists names in backticks for messages, shortened if there are too many to read.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MAX: usize = 20;
    let mut names: Vec<_> = names.take(MAX + 1).map(|name| format!("`{name}`")).collect();
    if names.len() > MAX {
        names[MAX] = "…".to_owned();
    }
    names.join(", ")
}
