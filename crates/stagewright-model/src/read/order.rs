//! Needs: who waits for whom, and in which order that leaves the stages.

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

/// How many stages of a circle are named; the rest is counted.
const MAX_NAMED: usize = 12;

/// Positions of drafts, looked up by name.
pub(super) type Names<'t> = HashMap<&'t str, usize>;

/// The needs of a file's stages, resolved. Everything is a position in the list of drafts.
pub(super) struct Order {
    /// In topological order, in the order of the file where that leaves a choice; finally stages last. Stages of a
    /// circle, and what needs them, are absent.
    pub(super) sequence: Vec<usize>,
    pub(super) needs: Vec<Vec<usize>>,
    pub(super) dependents: Vec<Vec<usize>>,
}

/// Stages that others name: by the position of the one that is named, those that name it, and where.
pub(super) type Naming = BTreeMap<usize, Vec<(usize, SourceSpan)>>;

impl Order {
    /// Those who name a stage that isn't sure to have ended before they start: their own position, that of the stage,
    /// and the place. Without an order there is no telling.
    pub(super) fn not_after(&self, naming: &Naming) -> Vec<(usize, usize, SourceSpan)> {
        let mut ranks = vec![0; self.needs.len()];
        if self.sequence.len() < ranks.len() {
            return Vec::new();
        }
        for (rank, &position) in self.sequence.iter().enumerate() {
            ranks[position] = rank;
        }
        let mut found = Vec::new();
        for (&target, places) in naming {
            let mut places = places.clone();
            places.retain(|(position, _)| !self.needs[*position].contains(&target));
            // One walk for each stage that is named from afar, which ends at the last of those who name it.
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

/// Looks up names. One that is used twice belongs to the first.
pub(super) fn names<'t>(drafts: &[Draft<'t>], report: &mut Report) -> Names<'t> {
    let mut names = Names::with_capacity(drafts.len());
    for (position, draft) in drafts.iter().enumerate() {
        let first = *names.entry(draft.name.value).or_insert(position);
        if first != position {
            report.error(|| {
                let message = format!("`{}` is a stage already", draft.name.value);
                Problem::new("stagewright::duplicate-stage", draft.name.span, message)
                    .label("used again here")
                    .also(drafts[first].name.span, "the first one")
                    .help("stages and finally stages share their names: rename one of the two")
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
        report_circles(drafts, &needs, &waiting, report);
    }
    Order { sequence, needs, dependents }
}

/// The positions of a draft's needs, without those that can't be.
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
    let message = format!("`{}` needs `{}`, and there is no such stage", draft.name.value, need.value);
    Problem::new("stagewright::unknown-stage", need.span, message).label("no stage has this name").help(help)
}

fn wrong_side(draft: &Draft<'_>, need: At<&str>) -> Problem {
    let (message, help) = match draft.kind {
        StageKind::Main => ("can't need the finally stage", "finally stages run last: move it to `[stages]`"),
        StageKind::Finally => {
            ("is a finally stage and needn't need", "finally stages run once all others ended: remove the need")
        }
    };
    let message = format!("`{}` {message} `{}`", draft.name.value, need.value);
    Problem::new("stagewright::wrong-need", need.span, message).help(help)
}

/// Reports one circle for each knot of stages that need each other.
fn report_circles(drafts: &[Draft<'_>], needs: &[Vec<usize>], waiting: &[usize], report: &mut Report) {
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
    for knot in kosaraju_scc(&graph).into_iter().filter(|knot| knot.len() > 1) {
        let members: HashSet<usize> = knot.into_iter().map(|node| graph[node]).collect();
        let circle = shortest_circle(&members, needs);
        report.error(|| circle_problem(drafts, &circle));
    }
}

/// From the member that stands first in the file along needs back to itself, which is named at the start alone.
fn shortest_circle(members: &HashSet<usize>, needs: &[Vec<usize>]) -> Vec<usize> {
    let start = members.iter().copied().min().unwrap_or_default();
    let mut came_from = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(position) = queue.pop_front() {
        if needs[position].contains(&start) {
            let mut circle: Vec<_> = std::iter::successors(Some(position), |at| came_from.get(at).copied()).collect();
            circle.reverse();
            return circle;
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

fn circle_problem(drafts: &[Draft<'_>], circle: &[usize]) -> Problem {
    let mut path: Vec<_> =
        circle.iter().take(MAX_NAMED).map(|&position| drafts[position].name.value.to_owned()).collect();
    if circle.len() > MAX_NAMED {
        path.push(format!("({} more)", circle.len() - MAX_NAMED));
    }
    path.extend(path.first().cloned());
    let edges = circle.iter().zip(circle.iter().cycle().skip(1)).take(MAX_NAMED).filter_map(|(&from, &to)| {
        let need = drafts[from].needs.iter().find(|need| need.value == drafts[to].name.value)?;
        Some((need.span, format!("`{}` needs `{}`", drafts[from].name.value, need.value)))
    });
    let mut edges = edges.collect::<Vec<_>>().into_iter();
    let (first, label) = edges.next().unwrap_or_else(|| (drafts[circle[0]].name.span, String::new()));
    let message = format!("these stages wait for each other: {}", path.join(" -> "));
    let problem = Problem::new("stagewright::cycle", first, message).label(label);
    edges.fold(problem, |problem, (span, label)| problem.also(span, label)).help("remove one of these needs")
}
