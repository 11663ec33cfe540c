//! Where the boxes go: a column for each length of the longest path that leads to a stage, finally stages to the
//! right of all others.

use super::Graph;
use crate::text::{truncate, width};

/// Pixels.
pub(super) const BOX_HEIGHT: usize = 44;
pub(super) const MARGIN: usize = 24;
pub(super) const COLUMN_GAP: usize = 56;
const ROW_GAP: usize = 18;
const PADDING: usize = 14;
/// Of a monospaced character at the drawing's font size.
const CHARACTER: usize = 8;
/// Longer labels are cut; the box's title has the whole.
const LONGEST_LABEL: usize = 36;

/// A box, by its top left corner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
}

pub(super) struct Layout {
    /// By node.
    pub(super) boxes: Vec<Placed>,
    /// Where the finally stages begin, if there are any.
    pub(super) finally: Option<usize>,
    pub(super) width: usize,
    pub(super) height: usize,
}

pub(super) fn place(graph: &Graph) -> Layout {
    let columns = ordered_columns(graph);
    let tallest = columns.iter().map(Vec::len).max().unwrap_or(0);
    let height = |rows: usize| rows * BOX_HEIGHT + rows.saturating_sub(1) * ROW_GAP;
    let mut boxes = vec![Placed::default(); graph.nodes.len()];
    let mut finally = None;
    let mut x = MARGIN;
    for column in &columns {
        let widest = column.iter().map(|&node| box_width(graph, node)).max().unwrap_or(0);
        if finally.is_none() && column.iter().any(|&node| graph.nodes[node].is_finally) {
            finally = Some(x);
        }
        let top = MARGIN + (height(tallest) - height(column.len())) / 2;
        for (row, &node) in column.iter().enumerate() {
            boxes[node] = Placed { x, y: top + row * (BOX_HEIGHT + ROW_GAP), width: widest };
        }
        x += widest + COLUMN_GAP;
    }
    let right = x.saturating_sub(COLUMN_GAP).max(MARGIN);
    Layout { boxes, finally, width: right + MARGIN, height: height(tallest) + 2 * MARGIN }
}

pub(super) fn label(text: &str) -> String {
    truncate(text, LONGEST_LABEL).into_owned()
}

fn box_width(graph: &Graph, node: usize) -> usize {
    let node = &graph.nodes[node];
    width(&label(&node.id)).max(width(&label(&node.uses))) * CHARACTER + 2 * PADDING
}

/// Nodes by column; within one, near to what they need.
fn ordered_columns(graph: &Graph) -> Vec<Vec<usize>> {
    let mut columns: Vec<Vec<usize>> = Vec::new();
    for (node, column) in column_of_each(graph).into_iter().enumerate() {
        if columns.len() <= column {
            columns.resize(column + 1, Vec::new());
        }
        columns[column].push(node);
    }
    let mut row = vec![0; graph.nodes.len()];
    for column in &mut columns {
        column.sort_by_key(|&node| (mean_row(&graph.nodes[node].needs, &row), node));
        column.iter().enumerate().for_each(|(at, &node)| row[node] = at);
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

/// In hundredths of a row, so that it sorts.
fn mean_row(needs: &[usize], row: &[usize]) -> usize {
    let sum: usize = needs.iter().map(|&need| row[need] * 100).sum();
    sum / needs.len().max(1)
}
