//! From the text of a pipeline file to a [`Plan`].
//!
//! The text is parsed, checked against the description in [`crate::shape`], read into drafts, and ordered by needs;
//! then all names are looked up and matrices multiplied out. A mistake stops none of these but the last, so that all are
//! reported at once; only text that isn't TOML has no more to say.

mod cache;
mod compensate;
mod fields;
mod freeze;
mod head;
mod locations;
mod lock;
mod matrix;
mod order;
mod pending;
mod place;
mod policy;
mod references;
mod stage;
mod teams;
mod uses;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use petgraph::graph::{DiGraph, NodeIndex};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::fields::Fields;
pub(crate) use self::locations::Places;
use self::matrix::Matrix;
use self::order::Order;
pub(crate) use self::place::locate;
use self::references::Known;
use self::stage::Shared;
use self::uses::Uses;
use crate::diagnostic::{Diagnostic, Diagnostics, Problem, Report};
use crate::plan::{Plan, Stage, StageIndex, StageKind};
use crate::shape;
use crate::span::SourceSpan;

/// Edges between stages and matrix cells, beyond which a plan is a mistake rather than a plan.
const MAX_EDGES: usize = 4_000_000;

/// Names of the plugins that `uses` may give without a scheme.
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
    /// Reads a pipeline file. `file_name` is what diagnostics call it; `plugins` are the built-in ones.
    ///
    /// Answers with the plan and what is doubtful about the file, or with everything that is wrong with it.
    pub fn parse(file_name: &str, text: &str, plugins: &PluginNames) -> Result<(Plan, Vec<Diagnostic>), Diagnostics> {
        let mut report = Report::new(file_name, text);
        let plan = read(text, plugins, &mut report);
        report.finish(plan)
    }
}

/// None when there are errors.
fn read(text: &str, plugins: &PluginNames, report: &mut Report) -> Option<Plan> {
    // What was parsed takes more memory than the plan, and is gone before that is put together.
    let Checked { plan, tables, order, compensate } = check(text, plugins, report)?;
    assemble(text, plan, tables, &order, &compensate, report)
}

/// A file without mistakes, of which nothing has to be looked up any more.
struct Checked {
    /// Without stages.
    plan: Plan,
    /// In the order of the file, with their matrices.
    tables: Vec<(Stage, Option<Matrix>)>,
    order: Order,
    compensate: Vec<Vec<usize>>,
}

fn check(text: &str, plugins: &PluginNames, report: &mut Report) -> Option<Checked> {
    let document = document(text, report)?;
    shape::check(&shape::FILE, "the pipeline file", document.get_ref(), report);
    let file = Fields::new(document.get_ref());
    let mut uses = Uses::new(text);
    let head = head::read(file, &mut uses, report);
    let pipeline_uses = uses.take();
    let shared = Shared::new(head.env.clone());
    let mut drafts = Vec::new();
    for (table, kind) in [("stages", StageKind::Main), ("finally", StageKind::Finally)] {
        let entries = file.table(table).entries().into_iter().filter(|(_, value)| value.get_ref().is_table());
        drafts.extend(entries.map(|(name, value)| stage::read(name, value, kind, &shared, &mut uses, report)));
    }
    report_no_stages(file, report);
    let names = order::names(&drafts, report);
    let order = order::order(&drafts, &names, report);
    let known = Known { file: text, head: &head, drafts: &drafts, names: &names, plugins };
    references::check(&known, &pipeline_uses, &order, report);
    let compensate = compensate::resolve(&drafts, &names, &order, report);
    teams::check(file, &head.teams, report);
    pending::warn(file, report);
    if report.has_errors() {
        return None;
    }
    let tables = drafts.into_iter().map(|draft| (draft.stage, draft.matrix)).collect();
    Some(Checked { plan: head.plan(), tables, order, compensate })
}

/// None when the text isn't TOML.
fn document<'t>(text: &'t str, report: &mut Report) -> Option<Spanned<DeTable<'t>>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        report.error(|| syntax_problem(error, text));
    }
    // What could be saved of such a text would be a source of mistakes that aren't there.
    let document = errors.is_empty().then_some(document)?;
    document.get_ref().values().for_each(|value| rounded_numbers(value, text, report));
    Some(document)
}

/// A version that is written as a number loses its last zero: `3.10` is 3.1.
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
                        format!("`{written}` is a number, and becomes {read} where it is used as text"),
                    )
                    .help(format!("if it is a version, write it as text: \"{written}\"")),
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
                .help("add one: `[stages.test]` with `uses = \"cargo-test\"`")
        });
    }
}

fn syntax_problem(error: &toml::de::Error, text: &str) -> Problem {
    // A parser that met the end of the text points behind it, where there is nothing to show.
    let place = error.span().unwrap_or(text.len()..text.len());
    let place = SourceSpan { start: place.start.min(text.len()), end: place.end.min(text.len()) };
    if error.message() == "duplicate key" {
        let key = &text[place.start..place.end];
        let message =
            if key.is_empty() { "this key is there already".to_owned() } else { format!("`{key}` is there already") };
        return Problem::new("stagewright::duplicate-key", place, message)
            .label("defined again here")
            .help("keep one of the two");
    }
    Problem::new("stagewright::syntax", place, "this is no TOML")
        .label(error.message())
        .help("strings stand in quotes, lists in brackets, and each `key = value` on a line of its own")
}

/// Numbers the stages and multiplies out their matrices.
fn assemble(
    text: &str,
    plan: Plan,
    tables: Vec<(Stage, Option<Matrix>)>,
    order: &Order,
    compensate: &[Vec<usize>],
    report: &mut Report,
) -> Option<Plan> {
    let counts: Vec<usize> =
        tables.iter().map(|(_, matrix)| matrix.as_ref().map_or(1, |matrix| matrix.cells.len())).collect();
    let mut ranges: Vec<Range<u32>> = vec![0..0; tables.len()];
    let (mut stage_count, mut edge_count) = (0_usize, 0_usize);
    for &position in &order.sequence {
        let start = stage_count;
        stage_count += counts[position];
        edge_count += counts[position] * order.needs[position].iter().map(|&need| counts[need]).sum::<usize>();
        ranges[position] = u32::try_from(start).ok()?..u32::try_from(stage_count).ok()?;
    }
    if edge_count > MAX_EDGES {
        report.error(|| {
            let message = format!("the matrices and needs of this pipeline make more than {MAX_EDGES} edges");
            Problem::new("stagewright::large-plan", SourceSpan::default(), message)
                .help("put a stage without a matrix between two that have large ones")
        });
        return None;
    }
    let mut graph = DiGraph::with_capacity(stage_count, edge_count);
    for index in 0..u32::try_from(stage_count).ok()? {
        graph.add_node(StageIndex(index));
    }
    let line_starts: Vec<usize> = text.match_indices('\n').map(|(newline, _)| newline + 1).collect();
    let mut tables: Vec<Option<(Stage, Option<Matrix>)>> = tables.into_iter().map(Some).collect();
    let mut stages = Vec::with_capacity(stage_count);
    let mut names = HashMap::with_capacity(tables.len());
    for &position in &order.sequence {
        let Some((mut stage, matrix)) = tables[position].take() else { continue };
        let cells = |of: &[usize]| of.iter().flat_map(|&one| ranges[one].clone()).map(StageIndex).collect();
        stage.compensate = cells(&compensate[position]);
        stage.needs = cells(&order.needs[position]);
        for index in ranges[position].clone() {
            for need in &stage.needs {
                graph.add_edge(NodeIndex::from(need.0), NodeIndex::from(index), ());
            }
        }
        names.insert(stage.name.clone(), ranges[position].clone());
        stage.line = line_starts.partition_point(|&start| start <= stage.location.start) + 1;
        match matrix {
            Some(matrix) => stages.extend(multiply(&stage, matrix)),
            None => stages.push(stage),
        }
    }
    Some(Plan { stages, graph, names, ..plan })
}
/// The cells of a matrix.
fn multiply(stage: &Stage, matrix: Matrix) -> impl Iterator<Item = Stage> {
    matrix.cells.into_iter().map(|(label, cell)| Stage {
        id: format!("{} ({label})", stage.name),
        matrix: Some(cell),
        ..stage.clone()
    })
}

/// For messages: `a`, `b` and so on, as far as they can be read.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MAX: usize = 20;
    let mut names: Vec<_> = names.take(MAX + 1).map(|name| format!("`{name}`")).collect();
    if names.len() > MAX {
        names[MAX] = "…".to_owned();
    }
    names.join(", ")
}
