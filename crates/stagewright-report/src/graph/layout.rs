//! The position of each box. A stage's column is the length of the longest path that leads to it; finally stages are to
//! the right of all others. An edge that spans several columns gets a row of its own in each column that it crosses.

use std::collections::BTreeMap;

use super::Graph;
use crate::text::{truncate, width};

/// Pixels.
pub(super) const BOX_HEIGHT: usize = 44;
pub(super) const MARGIN: usize = 24;
pub(super) const COLUMN_GAP: usize = 56;
const ROW_GAP: usize = 18;
/// Height of the row of an edge that crosses a column.
const PASS_HEIGHT: usize = 10;
const PADDING: usize = 14;
/// Width of a monospaced character at the drawing's font size.
const CHARACTER: usize = 8;
/// In characters. Longer labels are truncated; the box's title has the full text.
const LONGEST_LABEL: usize = 36;

/// A box, by its top left corner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
}

pub(super) struct GraphLayout {
    /// By index of the node.
    pub(super) boxes: Vec<Placed>,
    /// The left side of the finally stages; none without such stages.
    pub(super) finally: Option<usize>,
    pub(super) width: usize,
    pub(super) height: usize,
    /// By index of the node.
    column_of: Vec<usize>,
    /// Left side and width of each column.
    columns: Vec<(usize, usize)>,
    /// By column and index of the source node: the y coordinate at which the node's edges cross the column.
    passes: BTreeMap<(usize, usize), usize>,
}

impl GraphLayout {
    /// The columns that the edge between two nodes crosses, each as its left side, its right side and the y coordinate of
    /// the crossing.
    pub(super) fn passes(&self, from: usize, to: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        (self.column_of[from] + 1..self.column_of[to]).filter_map(move |column| {
            let (left, width) = self.columns[column];
            Some((left, left + width, *self.passes.get(&(column, from))?))
        })
    }
}

/// The content of a row of a column.
#[derive(Clone, Copy)]
enum ColumnItem {
    Node(usize),
    /// The edges of a node that cross the column on their way to later ones.
    Pass(usize),
}

impl ColumnItem {
    fn height(self) -> usize {
        match self {
            ColumnItem::Node(_) => BOX_HEIGHT,
            ColumnItem::Pass(_) => PASS_HEIGHT,
        }
    }

    fn node(self) -> Option<usize> {
        match self {
            ColumnItem::Node(node) => Some(node),
            ColumnItem::Pass(_) => None,
        }
    }
}

pub(super) fn place(graph: &Graph) -> GraphLayout {
    let column_of = column_of_each(graph);
    let items = ordered_columns(graph, &column_of);
    let height = |column: &Vec<ColumnItem>| {
        column.iter().map(|item| item.height()).sum::<usize>() + column.len().saturating_sub(1) * ROW_GAP
    };
    let tallest = items.iter().map(height).max().unwrap_or(0);
    let mut layout = GraphLayout {
        boxes: vec![Placed::default(); graph.nodes.len()],
        finally: None,
        width: 0,
        height: tallest + 2 * MARGIN,
        column_of,
        columns: Vec::new(),
        passes: BTreeMap::new(),
    };
    let mut x = MARGIN;
    for column in &items {
        let nodes = || column.iter().filter_map(|item| item.node());
        let width = nodes().map(|node| box_width(graph, node)).max().unwrap_or(0);
        if layout.finally.is_none() && nodes().any(|node| graph.nodes[node].is_finally) {
            layout.finally = Some(x);
        }
        let mut y = MARGIN + (tallest - height(column)) / 2;
        for item in column {
            match *item {
                ColumnItem::Node(node) => layout.boxes[node] = Placed { x, y, width },
                ColumnItem::Pass(from) => drop(layout.passes.insert((layout.columns.len(), from), y + PASS_HEIGHT / 2)),
            }
            y += item.height() + ROW_GAP;
        }
        layout.columns.push((x, width));
        x += width + COLUMN_GAP;
    }
    layout.width = x.saturating_sub(COLUMN_GAP).max(MARGIN) + MARGIN;
    layout
}

pub(super) fn label(text: &str) -> String {
    truncate(text, LONGEST_LABEL).into_owned()
}

fn box_width(graph: &Graph, node: usize) -> usize {
    let node = &graph.nodes[node];
    width(&label(&node.id)).max(width(&label(&node.uses))) * CHARACTER + 2 * PADDING
}

/// The items of each column, sorted so that an item is near the nodes it comes from.
fn ordered_columns(graph: &Graph, column_of: &[usize]) -> Vec<Vec<ColumnItem>> {
    let mut columns: Vec<Vec<ColumnItem>> = vec![Vec::new(); column_of.iter().max().map_or(0, |last| last + 1)];
    for (node, &column) in column_of.iter().enumerate() {
        columns[column].push(ColumnItem::Node(node));
    }
    for (from, &column) in column_of.iter().enumerate() {
        let targets = graph.edges().filter(|&(source, _)| source == from);
        let last = targets.map(|(_, to)| column_of[to]).max().unwrap_or(0);
        (column + 1..last).for_each(|between| columns[between].push(ColumnItem::Pass(from)));
    }
    // The last known row of each node: its own, or the one in which its edges crossed a later column.
    let mut row = vec![0; graph.nodes.len()];
    for column in &mut columns {
        column.sort_by_key(|item| match *item {
            ColumnItem::Node(node) => (mean_row(&graph.nodes[node].needs, &row), node),
            ColumnItem::Pass(from) => (row[from] * 100, from),
        });
        for (at, item) in column.iter().enumerate() {
            let (ColumnItem::Node(node) | ColumnItem::Pass(node)) = *item;
            row[node] = at;
        }
    }
    columns
}

fn column_of_each(graph: &Graph) -> Vec<usize> {
    let mut columns = vec![0; graph.nodes.len()];
    let mut first_of_finally = 0;
    for (index, node) in graph.nodes.iter().enumerate() {
        let least = if node.is_finally { first_of_finally } else { 0 };
        columns[index] = node.needs.iter().map(|&need| columns[need] + 1).max().unwrap_or(0).max(least);
        if !node.is_finally {
            first_of_finally = first_of_finally.max(columns[index] + 1);
        }
    }
    columns
}

/// The mean row of the needed nodes, in hundredths of a row because sort keys are integers.
fn mean_row(needs: &[usize], row: &[usize]) -> usize {
    let sum: usize = needs.iter().map(|&need| row[need] * 100).sum();
    sum / needs.len().max(1)
}

#[cfg(test)]
mod tests {
    use super::super::{GraphNode, NodeState};
    use super::*;

    /// Every combination of needs among five stages.
    fn graphs() -> impl Iterator<Item = Graph> {
        (0_u32..1 << 10).map(|bits| {
            let mut bit = 0;
            let nodes = (0..5).map(|index| {
                let needs = (0..index).filter(|_| {
                    bit += 1;
                    bits >> (bit - 1) & 1 == 1
                });
                let needs = needs.collect();
                let (id, uses) = (format!("stage-{index}"), "command".to_owned());
                GraphNode { id, uses, is_finally: index == 4 && bits % 3 == 0, needs, state: NodeState::Planned }
            });
            Graph::new("all", nodes.collect())
        })
    }

    #[test]
    fn edges_never_run_behind_a_box() {
        for graph in graphs() {
            let layout = place(&graph);
            for (from, to) in graph.edges() {
                let mut expected = layout.boxes[from].x + layout.boxes[from].width + COLUMN_GAP;
                for (left, right, y) in layout.passes(from, to) {
                    assert_eq!(left, expected, "{from} -> {to} skips a column of {graph:?}");
                    expected = right + COLUMN_GAP;
                    let is_behind =
                        |placed: &&Placed| placed.x == left && (placed.y..=placed.y + BOX_HEIGHT).contains(&y);
                    assert_eq!(layout.boxes.iter().find(is_behind), None, "{from} -> {to} of {graph:?}");
                }
                assert_eq!(layout.boxes[to].x, expected, "{from} -> {to} of {graph:?}");
            }
        }
    }
}
