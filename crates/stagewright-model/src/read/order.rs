//! Resolves the needs of stages and sorts the stages topologically.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::fields::At;
use super::stage::Draft;
use crate::diagnostic::{Problem, Report};
use crate::nearest::nearest;
use crate::plan::StageKind;
use crate::span::SourceSpan;

/// How many stages of a cycle a message names; the others are counted.
const MAX_NAMED: usize = 12;

/// The positions of drafts by name.
pub(super) type Names<'t> = HashMap<&'t str, usize>;

/// The resolved needs of a file's stages. Stages are identified by their position in the list of drafts.
pub(super) struct Order {
    /// The stages in topological order, and in the order of the file where needs allow it; finally stages last. Stages
    /// in a cycle, and those that need them, are missing.
    pub(super) sequence: Vec<usize>,
    /// The needs of each stage.
    pub(super) needs: Vec<Vec<usize>>,
    /// The stages that need each stage.
    pub(super) dependents: Vec<Vec<usize>>,
}

/// For each stage that others refer to, the positions of those others and the places of the references.
pub(super) type Referrers = BTreeMap<usize, Vec<(usize, SourceSpan)>>;

impl Order {
    /// The references to stages that may still be running when the referring stage starts, because it doesn't need them
    /// even indirectly: position of the referring stage, position of the target, place. Empty if the needs contain a
    /// cycle, which is reported anyway.
    pub(super) fn not_after(&self, referrers: &Referrers) -> Vec<(usize, usize, SourceSpan)> {
        let mut ranks = vec![0; self.needs.len()];
        if self.sequence.len() < ranks.len() {
            return Vec::new();
        }
        for (rank, &position) in self.sequence.iter().enumerate() {
            ranks[position] = rank;
        }
        let mut found = Vec::new();
        for (&target, places) in referrers {
            let mut places = places.clone();
            places.retain(|(position, _)| !self.needs[*position].contains(&target));
            // Search downstream of the target, once for all stages that refer to it. A stage only has dependents with a
            // higher rank, so nothing behind the last referrer in topological order can lead back to a referrer, and
            // the search can stop there. References to direct needs, which are the usual ones, were removed above and
            // cost no search.
            let Some(last) = places.iter().map(|(position, _)| ranks[*position]).max() else { continue };
            let mut downstream = HashSet::from([target]);
            let mut queue = VecDeque::from([target]);
            while let Some(position) = queue.pop_front() {
                let next = self.dependents[position].iter().filter(|&&dependent| ranks[dependent] <= last);
                queue.extend(next.filter(|&&dependent| downstream.insert(dependent)));
            }
            places.retain(|(position, _)| !downstream.contains(position));
            found.extend(places.into_iter().map(|(position, span)| (position, target, span)));
        }
        found
    }
}

/// Maps names to positions. Duplicates are reported; the first stage keeps the name.
pub(super) fn names<'t>(drafts: &[Draft<'t>], report: &mut Report) -> Names<'t> {
    let mut names = Names::with_capacity(drafts.len());
    for (position, draft) in drafts.iter().enumerate() {
        let first = *names.entry(draft.name.value).or_insert(position);
        if first != position {
            report.error(|| {
                let message = format!("two stages are called `{}`", draft.name.value);
                Problem::new("stagewright::duplicate-stage", draft.name.span, message)
                    .label("used again here")
                    .also(drafts[first].name.span, "first used here")
                    .help("rename one of the two: names must be unique across `[stages]` and `[finally]`")
            });
        }
    }
    names
}

pub(super) fn order(drafts: &[Draft<'_>], names: &Names<'_>, report: &mut Report) -> Order {
    let needs: Vec<Vec<usize>> =
        drafts.iter().enumerate().map(|(position, draft)| resolve(position, draft, drafts, names, report)).collect();
    let mut dependents = vec![Vec::new(); drafts.len()];
    for (position, needs) in needs.iter().enumerate() {
        for &need in needs {
            dependents[need].push(position);
        }
    }
    // Kahn's algorithm with a heap instead of a queue. Of the stages whose needs are in the sequence already, the heap
    // returns the one that is first in the file, and finally stages after all others. So the order of the plan only
    // differs from that of the file where needs require it.
    let rank = |position: usize| Reverse((drafts[position].kind == StageKind::Finally, position));
    let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut ready: BinaryHeap<_> = (0..drafts.len()).filter(|&position| waiting[position] == 0).map(rank).collect();
    let mut sequence = Vec::with_capacity(drafts.len());
    while let Some(Reverse((_, position))) = ready.pop() {
        sequence.push(position);
        for &dependent in &dependents[position] {
            waiting[dependent] -= 1;
            if waiting[dependent] == 0 {
                ready.push(rank(dependent));
            }
        }
    }
    if sequence.len() < drafts.len() {
        report_cycles(drafts, &needs, &waiting, report);
    }
    Order { sequence, needs, dependents }
}

/// The positions of a draft's needs, without the invalid ones, which are reported.
fn resolve(
    position: usize,
    draft: &Draft<'_>,
    drafts: &[Draft<'_>],
    names: &Names<'_>,
    report: &mut Report,
) -> Vec<usize> {
    let mut seen = HashSet::with_capacity(draft.needs.len());
    let mut resolved = Vec::with_capacity(draft.needs.len());
    for &need in &draft.needs {
        if !seen.insert(need.value) {
            report.error(|| {
                let message = format!("`{}` needs `{}` twice", draft.name.value, need.value);
                Problem::new("stagewright::duplicate-need", need.span, message).help("remove one of the two")
            });
            continue;
        }
        match names.get(need.value) {
            None => report.error(|| unknown_stage(draft, need, drafts, names)),
            Some(&found) if found == position => report.error(|| {
                let message = format!("`{}` needs itself", draft.name.value);
                Problem::new("stagewright::self-need", need.span, message).help("remove it from its own `needs`")
            }),
            Some(&found) if drafts[found].kind != draft.kind => report.error(|| wrong_side(draft, need)),
            Some(&found) => resolved.push(found),
        }
    }
    resolved
}

fn unknown_stage(draft: &Draft<'_>, need: At<&str>, drafts: &[Draft<'_>], names: &Names<'_>) -> Problem {
    let same_kind = names.iter().filter(|(_, position)| drafts[**position].kind == draft.kind).map(|(name, _)| *name);
    let help = match nearest(need.value, same_kind) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("add `[stages.{}]`, or remove the need", need.value),
    };
    let message = format!("`{}` needs `{}`, which does not exist", draft.name.value, need.value);
    Problem::new("stagewright::unknown-stage", need.span, message).label("unknown stage").help(help)
}

fn wrong_side(draft: &Draft<'_>, need: At<&str>) -> Problem {
    let (message, help) = match draft.kind {
        StageKind::Main => ("can't need the finally stage", "finally stages run last: move it to `[stages]`"),
        StageKind::Finally => {
            ("is a finally stage and can't need", "remove the need: finally stages run after all others anyway")
        }
    };
    let message = format!("`{}` {message} `{}`", draft.name.value, need.value);
    Problem::new("stagewright::wrong-need", need.span, message).help(help)
}

/// Reports one cycle for each group of stages that need each other directly or indirectly.
fn report_cycles(drafts: &[Draft<'_>], needs: &[Vec<usize>], waiting: &[usize], report: &mut Report) {
    let mut graph = DiGraph::<usize, ()>::new();
    let nodes: HashMap<usize, NodeIndex> = (0..drafts.len())
        .filter(|&position| waiting[position] > 0)
        .map(|position| (position, graph.add_node(position)))
        .collect();
    for (&position, &node) in &nodes {
        for need in needs[position].iter().filter_map(|need| nodes.get(need)) {
            graph.add_edge(node, *need, ());
        }
    }
    for component in kosaraju_scc(&graph).into_iter().filter(|component| component.len() > 1) {
        let members: HashSet<usize> = component.into_iter().map(|node| graph[node]).collect();
        let cycle = shortest_cycle(&members, needs);
        report.error(|| cycle_problem(drafts, &cycle));
    }
}

/// The shortest cycle that starts at the member that is first in the file. The start isn't repeated at the end.
fn shortest_cycle(members: &HashSet<usize>, needs: &[Vec<usize>]) -> Vec<usize> {
    let start = members.iter().copied().min().unwrap_or_default();
    let mut came_from = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(position) = queue.pop_front() {
        if needs[position].contains(&start) {
            let mut cycle: Vec<_> = std::iter::successors(Some(position), |at| came_from.get(at).copied()).collect();
            cycle.reverse();
            return cycle;
        }
        for &need in needs[position].iter().filter(|need| members.contains(need)) {
            if need != start && !came_from.contains_key(&need) {
                came_from.insert(need, position);
                queue.push_back(need);
            }
        }
    }
    vec![start]
}

fn cycle_problem(drafts: &[Draft<'_>], cycle: &[usize]) -> Problem {
    let mut path: Vec<_> =
        cycle.iter().take(MAX_NAMED).map(|&position| drafts[position].name.value.to_owned()).collect();
    if cycle.len() > MAX_NAMED {
        path.push(format!("({} more)", cycle.len() - MAX_NAMED));
    }
    path.extend(path.first().cloned());
    let edges = cycle.iter().zip(cycle.iter().cycle().skip(1)).take(MAX_NAMED).filter_map(|(&from, &to)| {
        let need = drafts[from].needs.iter().find(|need| need.value == drafts[to].name.value)?;
        Some((need.span, format!("`{}` needs `{}`", drafts[from].name.value, need.value)))
    });
    let mut edges = edges.collect::<Vec<_>>().into_iter();
    let (first, label) = edges.next().unwrap_or_else(|| (drafts[cycle[0]].name.span, String::new()));
    let message = format!("these stages need each other: {}", path.join(" -> "));
    let problem = Problem::new("stagewright::cycle", first, message).label(label);
    edges.fold(problem, |problem, (span, label)| problem.also(span, label)).help("remove one of these needs")
}
