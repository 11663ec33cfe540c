//! Makes the stages of a plan from the tables of a file: expands matrices and regions, and numbers the results.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::matrix::Matrix;
use super::order::Order;
use super::regions::{Pause, RegionGroup};
use crate::diagnostic::{Problem, Report};
use crate::expression::{JsonTemplate, NeedsStatus, Scope};
use crate::grants::{Limits, Permissions};
use crate::plan::{
    CacheUse, Environment, EnvironmentRef, Plan, PluginRef, Region, Retry, Stage, StageIndex, StageKind, Trust, Wave,
    environment_values,
};
use crate::span::SourceSpan;

/// The most edges between stages, with their cells and regions. A plan with more of them is most likely a mistake.
const MAX_EDGES: usize = 4_000_000;

/// The content of a file without errors, in which all names are resolved.
pub(super) struct CheckedFile {
    /// The plan, still without stages.
    pub(super) plan: Plan,
    /// The stages with their matrices, in the order of the file.
    pub(super) tables: Vec<(Stage, Option<Matrix>)>,
    pub(super) order: Order,
    /// For each stage, the positions of the stages that it compensates.
    pub(super) compensate: Vec<Vec<usize>>,
    /// The stages that are carried out region by region.
    pub(super) groups: Vec<RegionGroup>,
}

/// None if there are too many edges, which is reported.
pub(super) fn assemble(text: &str, file: CheckedFile, report: &mut Report) -> Option<Plan> {
    let CheckedFile { plan, tables, order, compensate, groups } = file;
    let numbers = Numbers::new(&tables, &order, &groups)?;
    if numbers.edge_count(&order) > MAX_EDGES {
        report.error(|| {
            let message = format!("the matrices and needs of this pipeline result in more than {MAX_EDGES} edges");
            Problem::new("stagewright::large-plan", SourceSpan::default(), message)
                .help("insert a stage without a matrix between two stages with large matrices")
        });
        return None;
    }
    let line_starts: Vec<usize> = text.match_indices('\n').map(|(newline, _)| newline + 1).collect();
    let line = |place: SourceSpan| line_starts.partition_point(|&start| start <= place.start) + 1;
    let mut tables: Vec<Option<(Stage, Option<Matrix>)>> = tables.into_iter().map(Some).collect();
    let mut stages = Vec::with_capacity(numbers.count());
    for &position in &order.sequence {
        let Some((mut stage, matrix)) = tables[position].take() else { continue };
        stage.line = line(stage.location);
        fill_in(&mut stage, &plan.environments);
        match numbers.group_of(position) {
            None => {
                stage.needs = numbers.all(&order.needs[position]);
                stage.compensate = numbers.all(&compensate[position]);
                stages.extend(cells(&stage, matrix.as_ref(), None));
            }
            Some(group) => {
                let regions = regions(&plan.environments, group);
                for (at, region) in regions.iter().copied().enumerate() {
                    let environment = stage.environment.as_ref().map(|reference| EnvironmentRef {
                        name: plan.environments[&group.environment].regions[at].clone(),
                        url: reference.url.clone(),
                    });
                    let links = numbers.links(group, position, at, &order, &compensate[position]);
                    let mut own = Stage { environment, ..links.of(stage.clone()) };
                    own.permissions = without_others(&own.permissions, region, &regions);
                    if let Some(rehearse) = own.rehearse.as_mut().map(Arc::make_mut) {
                        let granted = rehearse.permissions.take();
                        rehearse.permissions = granted.map(|granted| without_others(&granted, region, &regions));
                    }
                    stages.extend(cells(&own, matrix.as_ref(), Some(region)));
                }
            }
        }
    }
    for group in &groups {
        for number in 2..=group.waves.last().copied().unwrap_or(1) {
            let Some(pause) = &group.pause else { continue };
            let after = numbers.last_of_wave(group, number - 1, &order);
            stages.push(Stage { line: line(pause.location), ..pause_before(number, group, pause, after, &plan) });
        }
    }
    Some(plan.with_stages(if groups.is_empty() { stages } else { sorted(stages) }))
}

/// Fills in settings of environments, so that what a plugin needs for them is known before the run.
fn fill_in(stage: &mut Stage, environments: &BTreeMap<String, Environment>) {
    let scope = Environments(environments);
    let rehearse = stage.rehearse.as_mut().and_then(|rehearse| Arc::make_mut(rehearse).with.as_mut());
    for table in std::iter::once(&mut stage.with).chain(rehearse) {
        if let Some(filled) = table.filled_in(ENVIRONMENTS, &scope) {
            *table = Arc::new(filled);
        }
    }
}

/// The variable with the settings of environments.
const ENVIRONMENTS: &str = "environments";

struct Environments<'e>(&'e BTreeMap<String, Environment>);

impl Scope for Environments<'_> {
    fn root(&self, name: &str) -> Option<Json> {
        (name == ENVIRONMENTS).then(|| environment_values(self.0))
    }

    fn stage(&self, _: &str) -> Option<Json> {
        None
    }

    fn status(&self) -> NeedsStatus {
        NeedsStatus::default()
    }
}

fn regions<'e>(environments: &'e BTreeMap<String, Environment>, group: &RegionGroup) -> Vec<&'e Region> {
    let keys = environments.get(&group.environment).into_iter().flat_map(|environment| &environment.regions);
    keys.filter_map(|key| environments.get(key)?.region.as_ref()).collect()
}

/// The permissions of a stage in a region, without the credentials that other regions have for themselves.
fn without_others(granted: &Arc<Permissions>, own: &Region, regions: &[&Region]) -> Arc<Permissions> {
    let is_of_another =
        |name: &str| !own.credentials.contains(name) && regions.iter().any(|region| region.credentials.contains(name));
    let mut narrowed = Arc::clone(granted);
    if narrowed.credentials.iter().any(|rule| is_of_another(rule.name())) {
        Arc::make_mut(&mut narrowed).credentials.retain(|rule| !is_of_another(rule.name()));
    }
    narrowed
}

/// A stage of each cell of a matrix, or the stage itself.
fn cells(stage: &Stage, matrix: Option<&Matrix>, region: Option<&Region>) -> Vec<Stage> {
    let region = region.map(|region| format!("region={}", region.name));
    let id = |cell: Option<&str>| {
        let labels: Vec<&str> = cell.into_iter().chain(region.as_deref()).collect();
        if labels.is_empty() { stage.name.clone() } else { format!("{} ({})", stage.name, labels.join(", ")) }
    };
    match matrix {
        None => vec![Stage { id: id(None), ..stage.clone() }],
        Some(matrix) => {
            let cells = matrix.cells.iter();
            cells
                .map(|(label, cell)| Stage { id: id(Some(label)), matrix: Some(cell.clone()), ..stage.clone() })
                .collect()
        }
    }
}

/// The numbers of the stages before they are sorted. Those of a table are adjacent, region by region; pauses come last.
struct Numbers<'g> {
    ranges: Vec<Range<u32>>,
    /// How many cells the matrix of each table has.
    cells: Vec<u32>,
    groups: &'g [RegionGroup],
    /// The position of each table's group.
    group_of: Vec<Option<usize>>,
    /// The pause before the second wave of each group.
    first_pause: Vec<u32>,
    count: u32,
}

/// What connects a stage in a region with others.
struct StageLinks {
    needs: Vec<StageIndex>,
    compensate: Vec<StageIndex>,
    wave: Wave,
}

impl StageLinks {
    fn of(self, mut stage: Stage) -> Stage {
        let StageLinks { needs, compensate, wave } = self;
        stage.needs = needs.into_iter().chain(wave.after.iter().copied()).collect();
        stage.compensate = compensate.into_iter().chain(wave.undo.iter().copied()).collect();
        stage.wave = Some(Box::new(wave));
        stage
    }
}

impl<'g> Numbers<'g> {
    /// None if there are more stages than numbers.
    fn new(tables: &[(Stage, Option<Matrix>)], order: &Order, groups: &'g [RegionGroup]) -> Option<Numbers<'g>> {
        let mut group_of = vec![None; tables.len()];
        for (at, group) in groups.iter().enumerate() {
            group.stages.iter().for_each(|&position| group_of[position] = Some(at));
        }
        let cells = tables.iter().map(|(_, matrix)| matrix.as_ref().map_or(1, |matrix| matrix.cells.len()));
        let cells = cells.map(|count| u32::try_from(count).ok()).collect::<Option<Vec<u32>>>()?;
        let mut ranges = vec![0..0; tables.len()];
        let mut count = 0_u32;
        for &position in &order.sequence {
            let regions = group_of[position].map_or(1, |group: usize| groups[group].waves.len());
            let end = count.checked_add(cells[position].checked_mul(u32::try_from(regions).ok()?)?)?;
            ranges[position] = count..end;
            count = end;
        }
        let mut first_pause = Vec::with_capacity(groups.len());
        for group in groups {
            first_pause.push(count);
            let pauses = group.waves.last().map_or(0, |last| last - 1);
            count = count.checked_add(if group.pause.is_some() { pauses } else { 0 })?;
        }
        Some(Numbers { ranges, cells, groups, group_of, first_pause, count })
    }

    fn count(&self) -> usize {
        self.count as usize
    }

    fn group_of(&self, position: usize) -> Option<&'g RegionGroup> {
        self.group_of[position].map(|group| &self.groups[group])
    }

    /// At most how many edges the needs of the file result in. A need between two matrices is an edge between each pair of
    /// their cells, so a short file can require more edges than fit into memory.
    fn edge_count(&self, order: &Order) -> usize {
        let count = |position: usize| self.ranges[position].len();
        let edges = order.sequence.iter().map(|&position| {
            let needs: usize = order.needs[position].iter().map(|&need| count(need)).sum();
            let of_waves: usize =
                self.group_of(position).map_or(0, |group| group.stages.iter().map(|&stage| count(stage)).sum());
            count(position).saturating_mul(needs.saturating_add(of_waves))
        });
        edges.fold(0, usize::saturating_add)
    }

    /// The stages of these tables in all regions.
    fn all(&self, positions: &[usize]) -> Vec<StageIndex> {
        positions.iter().flat_map(|&position| self.ranges[position].clone()).map(StageIndex).collect()
    }

    /// The stages of a table in one region.
    fn in_region(&self, position: usize, region: usize) -> impl Iterator<Item = StageIndex> + use<> {
        let (start, cells) = (self.ranges[position].start, self.cells[position]);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an environment has fewer regions than a plan can have stages"
        )]
        let first = start + cells * region as u32;
        (first..first + cells).map(StageIndex)
    }

    /// These tables' stages in the region of a stage of the group, and in all regions if they aren't of the group.
    fn beside(&self, group: &RegionGroup, positions: &[usize], region: usize) -> Vec<StageIndex> {
        let of = |&position: &usize| match group.stages.contains(&position) {
            true => self.in_region(position, region).collect::<Vec<_>>(),
            false => self.all(&[position]),
        };
        positions.iter().flat_map(of).collect()
    }

    /// The stages with which a wave ends.
    fn last_of_wave(&self, group: &RegionGroup, wave: u32, order: &Order) -> Vec<StageIndex> {
        let regions = group.waves.iter().enumerate().filter(|(_, number)| **number == wave);
        let last = group.last(order);
        regions.flat_map(|(region, _)| last.iter().flat_map(move |&stage| self.in_region(stage, region))).collect()
    }

    fn links(
        &self,
        group: &RegionGroup,
        position: usize,
        region: usize,
        order: &Order,
        compensate: &[usize],
    ) -> StageLinks {
        let number = group.waves[region];
        let is_first = order.needs[position].iter().all(|need| !group.stages.contains(need));
        let pause = self.group_of[position].map(|at| self.first_pause[at]).filter(|_| group.pause.is_some());
        let after = match pause {
            _ if !is_first || number == 1 => Vec::new(),
            Some(first) => vec![StageIndex(first + number - 2)],
            None => self.last_of_wave(group, number - 1, order),
        };
        let so_far = group.waves.iter().enumerate().filter(|(_, wave)| **wave <= number).map(|(at, _)| at);
        let undone = so_far.flat_map(|at| group.undone.iter().map(move |&stage| (stage, at)));
        let undo =
            undone.filter(|other| *other != (position, region)).flat_map(|(stage, at)| self.in_region(stage, at));
        let compensate = self.beside(group, compensate, region);
        StageLinks {
            needs: self.beside(group, &order.needs[position], region),
            wave: Wave {
                environment: group.environment.clone(),
                number,
                is_pause: false,
                after,
                undo: undo.filter(|stage| !compensate.contains(stage)).collect(),
            },
            compensate,
        }
    }
}

/// The stage that pauses a group before one of its waves.
fn pause_before(number: u32, group: &RegionGroup, pause: &Pause, after: Vec<StageIndex>, plan: &Plan) -> Stage {
    let names = regions(&plan.environments, group).into_iter().zip(&group.waves);
    let next: Vec<&str> = names.filter(|(_, wave)| **wave == number).map(|(region, _)| region.name.as_str()).collect();
    let (environment, next) = (&group.environment, crate::words::list(next.iter().copied()));
    let name = format!("{environment} (wave {number})");
    let (plugin, with) = match &pause.duration {
        Some(duration) => {
            let reason = format!("pause before {environment} in {next}");
            ("wait", json!({ "duration": duration, "reason": reason }))
        }
        None => {
            let message = format!("Continue with {environment} in {next}?");
            ("approve", json!({ "message": message, "environments": [environment] }))
        }
    };
    Stage {
        id: name.clone(),
        name,
        kind: group.kind,
        uses: PluginRef::Builtin(plugin.to_owned()),
        with: Arc::new(JsonTemplate::new(with, Vec::new())),
        needs: after.clone(),
        condition: None,
        matrix: None,
        wave: Some(Box::new(Wave {
            environment: environment.clone(),
            number,
            is_pause: true,
            after,
            undo: Vec::new(),
        })),
        timeout: None,
        retry: Arc::new(Retry::default()),
        continue_on_error: false,
        env: BTreeMap::new(),
        environment: None,
        permissions: Arc::new(Permissions::default()),
        permission_sets: Vec::new(),
        rehearse: None,
        inputs: Vec::new(),
        outputs: Vec::new(),
        cache: CacheUse::Never,
        compensate: Vec::new(),
        trust: Trust::Component,
        memory: None,
        log_limit: None,
        limits: Limits::default(),
        location: pause.location,
        line: 0,
    }
}

/// Sorts the stages topologically, finally stages last. Between stages that could follow each other in either order, the
/// given one is kept.
fn sorted(stages: Vec<Stage>) -> Vec<Stage> {
    let mut dependents = vec![Vec::new(); stages.len()];
    let mut waiting = Vec::with_capacity(stages.len());
    for (at, stage) in stages.iter().enumerate() {
        stage.needs.iter().for_each(|need| dependents[need.get()].push(at));
        waiting.push(stage.needs.len());
    }
    let rank = |at: usize| Reverse((stages[at].kind == StageKind::Finally, at));
    let mut ready: BinaryHeap<_> = (0..stages.len()).filter(|&at| waiting[at] == 0).map(rank).collect();
    let mut sequence = Vec::with_capacity(stages.len());
    while let Some(Reverse((_, at))) = ready.pop() {
        sequence.push(at);
        for &dependent in &dependents[at] {
            waiting[dependent] -= 1;
            if waiting[dependent] == 0 {
                ready.push(rank(dependent));
            }
        }
    }
    let mut numbers = vec![StageIndex(0); stages.len()];
    for (number, &at) in (0..).map(StageIndex).zip(&sequence) {
        numbers[at] = number;
    }
    let mut stages: Vec<Option<Stage>> = stages.into_iter().map(Some).collect();
    let renumbered = |mut stage: Stage| {
        let renumber = |links: &mut Vec<StageIndex>| links.iter_mut().for_each(|link| *link = numbers[link.get()]);
        renumber(&mut stage.needs);
        renumber(&mut stage.compensate);
        if let Some(wave) = &mut stage.wave {
            renumber(&mut wave.after);
            renumber(&mut wave.undo);
        }
        stage
    };
    sequence.into_iter().filter_map(|at| stages[at].take()).map(renumbered).collect()
}
