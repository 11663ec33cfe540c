//! `matrix`: expands a stage into its combinations.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value as Json;

use super::fields::{At, Fields, Value, json};
use crate::diagnostic::{Problem, Report};
use crate::nearest::nearest;
use crate::plan::MatrixCell;
use crate::span::SourceSpan;

const MAX_CELLS: usize = crate::range::CELLS.most as usize;

/// Keys of the table that aren't axes.
const OPTIONS: [&str; 4] = ["include", "exclude", "fail-fast", "max-parallel"];

/// An expanded matrix.
pub(super) struct Matrix {
    /// Each cell with the label that its id contains, as in `os=linux, rust=stable`.
    pub(super) cells: Vec<(String, MatrixCell)>,
    /// The names that expressions may use in `matrix.NAME`.
    pub(super) names: BTreeSet<String>,
}

/// The values of a cell in the order of the file.
type Combination = Vec<(String, Json)>;

/// Expands a `matrix` table. The rules are those of other CI systems: `exclude` is applied before `include`. An entry
/// of `include` adds its values to every combination of the axes that it doesn't contradict. If it contradicts all of
/// them, it is added as another combination.
pub(super) fn expand(value: &Value<'_>, report: &mut Report) -> Matrix {
    let fields = Fields::of(value);
    let place = SourceSpan::from(value.span());
    let entries = fields.entries();
    let axes = entries.iter().filter(|(name, value)| !OPTIONS.contains(&name.value) && value.get_ref().is_array());
    let axes: Vec<(At<&str>, Vec<Json>)> = axes.map(|(name, _)| (*name, values(fields, name.value, report))).collect();
    let count = axes.iter().try_fold(1_usize, |product, (_, values)| product.checked_mul(values.len()));
    if count.is_none_or(|count| count > MAX_CELLS) {
        report.error(|| too_many(place));
        return Matrix { cells: Vec::new(), names: axes.iter().map(|(name, _)| name.value.to_owned()).collect() };
    }
    let mut combinations = product(&axes);
    exclude(&mut combinations, &axes, fields.items("exclude"), report);
    include(&mut combinations, &axes, fields.items("include"), report);
    report_size(&combinations, &axes, place, report);
    let names = axes.iter().map(|(name, _)| name.value.to_owned());
    let names = names.chain(combinations.iter().flatten().map(|(name, _)| name.clone())).collect();
    let fail_fast = fields.flag("fail-fast").unwrap_or(true);
    let max_parallel = fields.count("max-parallel");
    let mut seen = HashSet::new();
    let mut cells = Vec::with_capacity(combinations.len().min(MAX_CELLS));
    for combination in combinations.into_iter().take(MAX_CELLS) {
        let label = label(&combination);
        if !seen.insert(label.clone()) {
            report.error(|| {
                Problem::new("stagewright::duplicate-cell", place, format!("duplicate combination `{label}`"))
                    .help("remove one of the equal values, or omit one with `exclude`")
            });
        }
        cells.push((label, MatrixCell { values: combination.into_iter().collect(), fail_fast, max_parallel }));
    }
    Matrix { cells, names }
}

fn values(fields: Fields<'_>, axis: &str, report: &mut Report) -> Vec<Json> {
    fields.items(axis).iter().map(|value| json(value, report)).collect()
}

/// All combinations of the axes' values; the last axis varies fastest. Without axes, there are none, rather than one
/// empty combination.
fn product(axes: &[(At<&str>, Vec<Json>)]) -> Vec<Combination> {
    let mut combinations: Vec<Combination> = if axes.is_empty() { Vec::new() } else { vec![Vec::new()] };
    for (name, values) in axes {
        combinations = combinations
            .iter()
            .flat_map(|combination| {
                values.iter().map(|value| {
                    let added = (name.value.to_owned(), value.clone());
                    combination.iter().cloned().chain([added]).collect()
                })
            })
            .collect();
    }
    combinations
}

fn exclude(
    combinations: &mut Vec<Combination>,
    axes: &[(At<&str>, Vec<Json>)],
    entries: &[Value<'_>],
    report: &mut Report,
) {
    for entry in entries {
        for (key, _) in Fields::of(entry).entries() {
            if !axes.iter().any(|(name, _)| name.value == key.value) {
                report.error(|| unknown_axis(key, axes));
            }
        }
        let excluded = combination(entry, report);
        let before = combinations.len();
        combinations.retain(|combination| !excluded.iter().all(|value| combination.contains(value)));
        if combinations.len() == before && !excluded.is_empty() {
            report.warning(
                Problem::new("stagewright::unused", entry.span().into(), "this `exclude` matches no combination")
                    .help("remove it, or correct its values"),
            );
        }
    }
}

fn include(
    combinations: &mut Vec<Combination>,
    axes: &[(At<&str>, Vec<Json>)],
    entries: &[Value<'_>],
    report: &mut Report,
) {
    let is_axis = |name: &str| axes.iter().any(|(axis, _)| axis.value == name);
    let originals = combinations.len();
    for entry in entries {
        let (fixed, added): (Combination, Combination) =
            combination(entry, report).into_iter().partition(|(name, _)| is_axis(name));
        let mut matched = false;
        for combination in &mut combinations[..originals] {
            if fixed.iter().all(|value| combination.contains(value)) {
                matched = true;
                for (name, value) in &added {
                    match combination.iter_mut().find(|(known, _)| known == name) {
                        Some((_, known)) => *known = value.clone(),
                        None => combination.push((name.clone(), value.clone())),
                    }
                }
            }
        }
        if !matched {
            combinations.push(fixed.into_iter().chain(added).collect());
        }
    }
}

fn combination(entry: &Value<'_>, report: &mut Report) -> Combination {
    let entries = Fields::of(entry).entries().into_iter();
    entries.map(|(key, value)| (key.value.to_owned(), json(value, report))).collect()
}

fn label(combination: &Combination) -> String {
    let values = combination.iter().map(|(name, value)| match value {
        Json::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    });
    values.collect::<Vec<_>>().join(", ")
}

fn report_size(combinations: &[Combination], axes: &[(At<&str>, Vec<Json>)], place: SourceSpan, report: &mut Report) {
    if combinations.len() > MAX_CELLS {
        report.error(|| too_many(place));
    }
    if combinations.is_empty() {
        let empty = axes.iter().find(|(_, values)| values.is_empty());
        report.error(|| {
            let help = match empty {
                Some((name, _)) => format!("add a value to the axis `{}`", name.value),
                None if axes.is_empty() => "add an axis, as in `os = [\"linux\", \"macos\"]`".to_owned(),
                None => "exclude fewer combinations: `exclude` matches all of them".to_owned(),
            };
            Problem::new("stagewright::empty-matrix", place, "the matrix has no combinations").help(help)
        });
    }
}

fn too_many(place: SourceSpan) -> Problem {
    Problem::new("stagewright::large-matrix", place, format!("the matrix has more than {MAX_CELLS} combinations"))
        .help("split the stage, or shorten the axes")
}

fn unknown_axis(key: At<&str>, axes: &[(At<&str>, Vec<Json>)]) -> Problem {
    let names = axes.iter().map(|(name, _)| name.value);
    let help = match nearest(key.value, names.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the axes are {}", super::list(names)),
    };
    Problem::new("stagewright::unknown-axis", key.span, format!("the matrix has no axis `{}`", key.value))
        .label("unknown axis")
        .help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn labels(text: &str) -> Vec<String> {
        let table = toml::de::DeTable::parse(text).unwrap();
        let mut report = Report::new("m.toml", text);
        let matrix = expand(table.get_ref().get("matrix").unwrap(), &mut report);
        assert!(!report.has_errors(), "{:?}", report.finish(Some(())));
        matrix.cells.into_iter().map(|(label, _)| label).collect()
    }

    #[test]
    fn axes_multiply_in_the_order_of_the_file() {
        assert_eq!(
            labels("matrix = { os = ['linux', 'macos'], arch = [64, true] }"),
            ["os=linux, arch=64", "os=linux, arch=true", "os=macos, arch=64", "os=macos, arch=true"],
        );
    }

    #[test]
    fn exclude_removes_combinations_that_match_all_its_values() {
        assert_eq!(
            labels("matrix = { a = [1, 2], b = ['x', 'y'], exclude = [{ a = 1 }, { a = 2, b = 'y' }] }"),
            ["a=2, b=x"],
        );
    }

    /// The example of GitHub's documentation.
    #[test]
    fn include_extends_matching_combinations_or_adds_one() {
        let text = "matrix = { fruit = ['apple', 'pear'], animal = ['cat', 'dog'], include = [
            { color = 'green' }, { color = 'pink', animal = 'cat' }, { fruit = 'apple', shape = 'circle' },
            { fruit = 'banana' }, { fruit = 'banana', animal = 'cat' } ] }";
        assert_eq!(
            labels(text),
            [
                "fruit=apple, animal=cat, color=pink, shape=circle",
                "fruit=apple, animal=dog, color=green, shape=circle",
                "fruit=pear, animal=cat, color=pink",
                "fruit=pear, animal=dog, color=green",
                "fruit=banana",
                "fruit=banana, animal=cat",
            ],
        );
    }

    #[test]
    fn include_without_axes_adds_combinations() {
        assert_eq!(labels("matrix = { include = [{ os = 'a' }, { os = 'b', x = 1 }] }"), ["os=a", "os=b, x=1"]);
    }
}
