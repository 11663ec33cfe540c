//! Draws the DAG of a pipeline as DOT, as Mermaid, or as an SVG that needs no other program.

mod layout;
mod svg;

use std::fmt::Write;

use stagewright_engine::Outcome;
use stagewright_model::{Plan, StageKind};

use crate::printable::escaped;
use crate::view::{RunView, StageStatus, StageView};

/// A pipeline's stages and what they need. Each cell of a matrix is a node of its own.
#[derive(Clone, Debug)]
pub struct Graph {
    name: String,
    nodes: Vec<GraphNode>,
}

#[derive(Clone, Debug)]
struct GraphNode {
    id: String,
    uses: String,
    is_finally: bool,
    /// Positions in `nodes`, all before this node's own.
    needs: Vec<usize>,
    state: NodeState,
}

/// The state of a stage as far as the drawing distinguishes it, by colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeState {
    Planned,
    Running,
    Waiting,
    Good,
    Bad,
    Skipped,
    Compensated,
}

impl NodeState {
    const ALL: [NodeState; 7] = [
        NodeState::Planned,
        NodeState::Running,
        NodeState::Waiting,
        NodeState::Good,
        NodeState::Bad,
        NodeState::Skipped,
        NodeState::Compensated,
    ];

    fn class(self) -> &'static str {
        match self {
            NodeState::Planned => "planned",
            NodeState::Running => "running",
            NodeState::Waiting => "waiting",
            NodeState::Good => "good",
            NodeState::Bad => "bad",
            NodeState::Skipped => "skipped",
            NodeState::Compensated => "compensated",
        }
    }

    /// The state in words, for readers who can't see the colour; none for a stage that hasn't started.
    fn word(self) -> Option<&'static str> {
        match self {
            NodeState::Planned => None,
            NodeState::Running => Some("running"),
            NodeState::Waiting => Some("waiting"),
            NodeState::Good => Some("succeeded"),
            NodeState::Bad => Some("failed"),
            NodeState::Skipped => Some("skipped"),
            NodeState::Compensated => Some("compensated"),
        }
    }

    /// The stroke colour, the same in each format. The colours are distinguishable on white and on black.
    fn color(self) -> &'static str {
        match self {
            NodeState::Planned => "#808890",
            NodeState::Running => "#3b82f6",
            NodeState::Waiting => "#d97706",
            NodeState::Good => "#16a34a",
            NodeState::Bad => "#dc2626",
            NodeState::Skipped => "#a0a8b0",
            NodeState::Compensated => "#a855f7",
        }
    }
}

impl Graph {
    /// The graph of a plan, in which no stage has run.
    pub fn of_plan(plan: &Plan) -> Graph {
        let nodes = plan.stages.iter().map(|stage| GraphNode {
            id: escaped(&stage.id).into_owned(),
            uses: escaped(&stage.uses.to_string()).into_owned(),
            is_finally: stage.kind == StageKind::Finally,
            needs: stage.needs.iter().map(|need| need.get()).collect(),
            state: NodeState::Planned,
        });
        Graph::new(&plan.name, nodes.collect())
    }

    /// The graph of a run, coloured by the states of its stages.
    pub fn of_run(view: &RunView) -> Graph {
        let nodes = view.stages.iter().map(|stage| GraphNode {
            id: escaped(&stage.summary.id).into_owned(),
            uses: escaped(&stage.summary.uses).into_owned(),
            is_finally: stage.summary.kind == StageKind::Finally,
            needs: stage.summary.needs.iter().map(|need| need.get()).collect(),
            state: state(stage),
        });
        Graph::new(&view.pipeline, nodes.collect())
    }

    fn new(name: &str, mut nodes: Vec<GraphNode>) -> Graph {
        // A plan is in topological order, so a need always precedes the stage. The stages of a run come from a journal,
        // which may be damaged: edges that break the order are dropped, or the layout's columns, which are computed in
        // one pass over the nodes, would be wrong.
        for (index, node) in nodes.iter_mut().enumerate() {
            node.needs.retain(|&need| need < index);
        }
        Graph { name: escaped(name).into_owned(), nodes }
    }

    /// The graph in the DOT language of Graphviz.
    pub fn to_dot(&self) -> String {
        let mut dot = format!("digraph {} {{\n  rankdir=LR;\n  node [shape=box, style=rounded];\n", quoted(&self.name));
        self.write_nodes(&mut dot, "  subgraph cluster_finally {\n    label=finally;\n    style=dashed;\n", "  }\n", {
            |index, node| {
                let label = quoted(&format!("{}\n{}", node.id, node.uses));
                format!("n{index} [label={label}, color=\"{}\", class={}];", node.state.color(), node.state.class())
            }
        });
        for (from, to) in self.edges() {
            let _ = writeln!(dot, "  n{from} -> n{to};");
        }
        dot.push_str("}\n");
        dot
    }

    /// The graph as a Mermaid flowchart, which GitHub and GitLab render in Markdown.
    pub fn to_mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        self.write_nodes(&mut text, "  subgraph finally\n", "  end\n", |index, node| {
            let label = format!("{}<br/>{}", mermaid_text(&node.id), mermaid_text(&node.uses));
            format!("n{index}[\"{label}\"]:::{}", node.state.class())
        });
        for (from, to) in self.edges() {
            let _ = writeln!(text, "  n{from} --> n{to}");
        }
        for state in NodeState::ALL.into_iter().filter(|&state| self.nodes.iter().any(|node| node.state == state)) {
            let _ = writeln!(text, "  classDef {} stroke:{}", state.class(), state.color());
        }
        text
    }

    /// The graph as a picture that follows the reader's light or dark colour scheme.
    pub fn to_svg(&self) -> String {
        svg::draw(self)
    }

    fn write_nodes(&self, text: &mut String, open: &str, close: &str, node: impl Fn(usize, &GraphNode) -> String) {
        let (finally, main): (Vec<_>, Vec<_>) = self.nodes.iter().enumerate().partition(|(_, node)| node.is_finally);
        for (index, stage) in main {
            let _ = writeln!(text, "  {}", node(index, stage));
        }
        if !finally.is_empty() {
            text.push_str(open);
            for (index, stage) in finally {
                let _ = writeln!(text, "    {}", node(index, stage));
            }
            text.push_str(close);
        }
    }

    fn edges(&self) -> impl Iterator<Item = (usize, usize)> {
        self.nodes.iter().enumerate().flat_map(|(to, node)| node.needs.iter().map(move |&from| (from, to)))
    }
}

fn state(stage: &StageView) -> NodeState {
    match &stage.status {
        StageStatus::Pending => NodeState::Planned,
        StageStatus::Running | StageStatus::Recovering { .. } => NodeState::Running,
        StageStatus::AwaitingEnvironment { .. } | StageStatus::Waiting(_) | StageStatus::Retrying { .. } => {
            NodeState::Waiting
        }
        StageStatus::Ended { .. } if stage.undo_failure().is_some() => NodeState::Bad,
        StageStatus::Ended { .. } if stage.is_compensated() => NodeState::Compensated,
        StageStatus::Ended { .. } if stage.undone_since().is_some() => NodeState::Running,
        StageStatus::Ended { conclusion, .. } => match stage.status.shown().unwrap_or(*conclusion) {
            Outcome::Succeeded => NodeState::Good,
            Outcome::Skipped | Outcome::Cancelled | Outcome::Rehearsed => NodeState::Skipped,
            Outcome::Failed
            | Outcome::Errored
            | Outcome::TimedOut
            | Outcome::Lost
            | Outcome::Rejected
            | Outcome::Inconclusive => NodeState::Bad,
        },
    }
}

/// Quotes a string for the DOT language; line ends become `\n`.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Escapes text for a quoted Mermaid label, which may contain HTML and `#name;` entities.
fn mermaid_text(text: &str) -> String {
    text.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;").replace('&', "#amp;")
}
