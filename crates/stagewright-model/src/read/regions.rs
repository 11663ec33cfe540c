//! `[environments.NAME.regions]` and `[environments.NAME.waves]`: the regions of an environment, and which stages are
//! carried out region by region.
//!
//! Stages of one environment that need each other directly form a group. The stages of a group run for the regions of the
//! first wave, then for those of the second, and so on, so that a region is deployed to *and* tested before the next one.

use std::collections::{BTreeMap, BTreeSet};

use super::fields::{Fields, Value, json};
use super::order::Order;
use super::stage::Draft;
use super::{freeze, targets};
use crate::diagnostic::{Problem, Report};
use crate::plan::{Environment, PluginRef, Region, Stage, StageKind, environment_of_region};
use crate::shape::percentage;
use crate::span::SourceSpan;

/// The field of `region` with the region's name. No value has this name.
pub(super) const NAME: &str = "name";

/// A region, with what its environment has instead of that of the whole.
pub(super) struct ReadRegion {
    region: Region,
    url: Option<String>,
    freeze: Vec<crate::freeze::Freeze>,
}

/// The regions of an environment's table, in the order of the file.
pub(super) fn read(environment: Fields<'_>, report: &mut Report) -> Vec<ReadRegion> {
    let regions = environment.table("regions").entries().into_iter().filter(|(_, value)| value.get_ref().is_table());
    let regions = regions.map(|(name, value)| {
        let fields = Fields::of(value);
        for (key, _) in fields.table("values").entries().iter().filter(|(key, _)| key.value == NAME) {
            report.error(|| {
                Problem::new("stagewright::bad-region", key.span, "`region.name` is the name of the region")
                    .help("give the value another name")
            });
        }
        let values = fields.table("values").entries().into_iter();
        ReadRegion {
            region: Region {
                name: name.value.to_owned(),
                values: values.map(|(key, value)| (key.value.to_owned(), json(value, report))).collect(),
                credentials: fields.strings("credentials").into_iter().collect(),
            },
            url: fields.string("url"),
            freeze: freeze::read(fields, report),
        }
    });
    regions.collect()
}

/// All environments, with those of regions beside those that have the regions.
pub(super) fn flattened(read: BTreeMap<String, (Environment, Vec<ReadRegion>)>) -> BTreeMap<String, Environment> {
    let mut all = BTreeMap::new();
    for (name, (mut environment, regions)) in read {
        for ReadRegion { region, url, freeze } in regions {
            let key = environment_of_region(&name, &region.name);
            environment.regions.push(key.clone());
            let own = Environment {
                url: url.or_else(|| environment.url.clone()),
                freeze: environment.freeze.iter().cloned().chain(freeze).collect(),
                regions: Vec::new(),
                region: Some(region),
                ..environment.clone()
            };
            all.insert(key, own);
        }
        all.insert(name, environment);
    }
    all
}

/// The regions of a stage's environment.
pub(super) fn of<'e>(stage: &Stage, environments: &'e BTreeMap<String, Environment>) -> Vec<&'e Region> {
    let environment = stage.environment.as_ref().and_then(|environment| environments.get(&environment.name));
    let keys = environment.into_iter().flat_map(|environment| &environment.regions);
    keys.filter_map(|key| environments.get(key)?.region.as_ref()).collect()
}

/// The stages of an environment that are carried out together, wave by wave. Stages are identified by their position in the
/// list of drafts.
pub(super) struct RegionGroup {
    /// The environment that has the regions.
    pub(super) environment: String,
    pub(super) stages: BTreeSet<usize>,
    pub(super) kind: StageKind,
    /// The wave of each region, from 1, in the order of the regions.
    pub(super) waves: Vec<u32>,
    /// What happens between two waves.
    pub(super) pause: Option<Pause>,
    /// The stages that are compensated in the regions before if a wave fails.
    pub(super) undone: BTreeSet<usize>,
}

/// `pause`.
#[derive(Clone)]
pub(super) struct Pause {
    /// `duration`, as it was written; none for a pause that a person ends.
    pub(super) duration: Option<String>,
    pub(super) location: SourceSpan,
}

impl RegionGroup {
    /// The stages that no other one of the group comes after.
    pub(super) fn last(&self, order: &Order) -> Vec<usize> {
        let is_last = |stage: &&usize| order.dependents[**stage].iter().all(|other| !self.stages.contains(other));
        self.stages.iter().filter(is_last).copied().collect()
    }
}

/// The groups of stages that act on environments with regions. Reports what keeps a group from being carried out.
pub(super) fn groups(
    drafts: &[Draft<'_>],
    compensate: &[Vec<usize>],
    order: &Order,
    file: Fields<'_>,
    environments: &BTreeMap<String, Environment>,
    report: &mut Report,
) -> Vec<RegionGroup> {
    let mut groups = Vec::new();
    for (name, value) in file.table("environments").entries() {
        let Some(environment) = environments.get(name.value) else { continue };
        let table = Fields::of(value);
        if environment.regions.is_empty() {
            report_without_regions(table, report);
            continue;
        }
        let waves = table.table("waves");
        let is_of_it = |position: &usize| {
            drafts[*position].stage.environment.as_ref().is_some_and(|reference| reference.name == name.value)
        };
        let mut rest: BTreeSet<usize> = (0..drafts.len()).filter(is_of_it).collect();
        while let Some(first) = rest.pop_first() {
            let stages = connected(first, &mut rest, order);
            report_between(&stages, name.value, drafts, order, report);
            let target = environment.target.as_deref().map(targets::plugin);
            let stops = waves.text("on-failure").is_some_and(|decision| decision.value == "stop");
            groups.push(RegionGroup {
                environment: name.value.to_owned(),
                kind: drafts[first].kind,
                waves: numbers(waves, environment.regions.len()),
                pause: waves.get("pause").map(pause),
                undone: if stops { BTreeSet::new() } else { undone(&stages, target.as_ref(), drafts, compensate) },
                stages,
            });
        }
    }
    groups
}

/// The stages that `first` is connected to by needs; removes them from `rest`.
fn connected(first: usize, rest: &mut BTreeSet<usize>, order: &Order) -> BTreeSet<usize> {
    let (mut found, mut open) = (BTreeSet::from([first]), vec![first]);
    while let Some(position) = open.pop() {
        for &other in order.needs[position].iter().chain(&order.dependents[position]) {
            if rest.remove(&other) {
                found.insert(other);
                open.push(other);
            }
        }
    }
    found
}

/// Those of the stages that deploy, or that another one compensates.
fn undone(
    stages: &BTreeSet<usize>,
    target: Option<&PluginRef>,
    drafts: &[Draft<'_>],
    compensate: &[Vec<usize>],
) -> BTreeSet<usize> {
    let deploys = |position: &usize| target == Some(&drafts[*position].stage.uses);
    let named: BTreeSet<usize> = compensate.iter().flatten().copied().collect();
    stages.iter().filter(|position| deploys(position) || named.contains(position)).copied().collect()
}

fn pause(value: &Value<'_>) -> Pause {
    Pause { duration: Fields::of(value).string("duration"), location: value.span().into() }
}

/// The wave of each of `count` regions.
fn numbers(waves: Fields<'_>, count: usize) -> Vec<u32> {
    let serial = waves.items("serial");
    let size = |item: &Value<'_>| match super::fields::text(item) {
        // Rounded down, but never to nothing, as in playbooks of Ansible.
        Some(text) => percentage(text.value).map_or(1, |share| count * share as usize / 100),
        None => super::fields::count(item).map_or(1, |size| size as usize),
    };
    let (mut numbers, mut wave) = (Vec::with_capacity(count), 0);
    while numbers.len() < count {
        let size = serial.get(wave).or(serial.last()).map_or(1, size).max(1);
        wave += 1;
        let number = u32::try_from(wave).unwrap_or(u32::MAX);
        numbers.extend(std::iter::repeat_n(number, size.min(count - numbers.len())));
    }
    numbers
}

fn report_without_regions(environment: Fields<'_>, report: &mut Report) {
    for (key, span) in [("waves", environment.get("waves")), ("regions", environment.get("regions"))] {
        let Some(value) = span else { continue };
        report.error(|| {
            let message = match key {
                "waves" => "an environment without `regions` has no waves",
                _ => "the environment has no region",
            };
            Problem::new("stagewright::no-regions", value.span().into(), message)
                .help("add a region, as in `[environments.production.regions.eu]`")
        });
        return;
    }
}

/// Reports stages that need a stage of the group and that another one of the group needs. They would have to run between
/// stages of the first region, and also after all regions.
fn report_between(
    stages: &BTreeSet<usize>,
    environment: &str,
    drafts: &[Draft<'_>],
    order: &Order,
    report: &mut Report,
) {
    let reachable = |next: &[Vec<usize>]| {
        let (mut seen, mut open) = (BTreeSet::new(), stages.iter().copied().collect::<Vec<_>>());
        while let Some(position) = open.pop() {
            open.extend(next[position].iter().filter(|other| !stages.contains(other) && seen.insert(**other)));
        }
        seen
    };
    let (before, after) = (reachable(&order.needs), reachable(&order.dependents));
    if let Some(&between) = before.intersection(&after).next() {
        let draft = &drafts[between];
        report.error(|| {
            let message = format!(
                "`{}` is between stages of `{environment}`, which are carried out region by region",
                draft.name.value
            );
            Problem::new("stagewright::between-regions", draft.name.span, message).help(format!(
                "add `environment = \"{environment}\"` to it, or remove the direct need between the stages of \
                 `{environment}` before and after it"
            ))
        });
    }
}
