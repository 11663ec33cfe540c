//! The DAG of a pipeline, drawn: as DOT, as Mermaid, and as an SVG that needs no other program.

mod layout;
mod svg;

use std::fmt::Write;

use stagewright_engine::Outcome;
use stagewright_model::{Plan, StageKind};

use crate::printable::escaped;
use crate::view::{RunView, StageView, Status};

/// A pipeline's stages and what they need. Each cell of a matrix is a node of its own.
#[derive(Clone, Debug)]
pub struct Graph {
    name: String,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
struct Node {
    id: String,
    uses: String,
    is_finally: bool,
    /// Positions in `nodes`, all before this node's own.
    needs: Vec<usize>,
    state: State,
}

/// What a node's colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Planned,
    Running,
    Waiting,
    Good,
    Bad,
    Skipped,
    TakenBack,
}

impl State {
    const ALL: [State; 7] =
        [State::Planned, State::Running, State::Waiting, State::Good, State::Bad, State::Skipped, State::TakenBack];

    fn class(self) -> &'static str {
        match self {
            State::Planned => "planned",
            State::Running => "running",
            State::Waiting => "waiting",
            State::Good => "good",
            State::Bad => "bad",
            State::Skipped => "skipped",
            State::TakenBack => "taken-back",
        }
    }

    /// For those who don't see the colour; none for what hasn't begun.
    fn word(self) -> Option<&'static str> {
        match self {
            State::Planned => None,
            State::Running => Some("running"),
            State::Waiting => Some("waiting"),
            State::Good => Some("succeeded"),
            State::Bad => Some("failed"),
            State::Skipped => Some("skipped"),
            State::TakenBack => Some("taken back"),
        }
    }

    /// Stroke colours that can be told apart on white and on black; the same in each format.
    fn color(self) -> &'static str {
        match self {
            State::Planned => "#808890",
            State::Running => "#3b82f6",
            State::Waiting => "#d97706",
            State::Good => "#16a34a",
            State::Bad => "#dc2626",
            State::Skipped => "#a0a8b0",
            State::TakenBack => "#a855f7",
        }
    }
}

impl Graph {
    /// Of a plan: nothing has run.
    pub fn of_plan(plan: &Plan) -> Graph {
        let nodes = plan.stages.iter().map(|stage| Node {
            id: escaped(&stage.id).into_owned(),
            uses: escaped(&stage.uses.to_string()).into_owned(),
            is_finally: stage.kind == StageKind::Finally,
            needs: stage.needs.iter().map(|need| need.get()).collect(),
            state: State::Planned,
        });
        Graph::new(&plan.name, nodes.collect())
    }

    /// Of a run: coloured by how its stages stand.
    pub fn of_run(view: &RunView) -> Graph {
        let nodes = view.stages.iter().map(|stage| Node {
            id: escaped(&stage.summary.id).into_owned(),
            uses: escaped(&stage.summary.uses).into_owned(),
            is_finally: stage.summary.kind == StageKind::Finally,
            needs: stage.summary.needs.iter().map(|need| need.get()).collect(),
            state: state(stage),
        });
        Graph::new(&view.pipeline, nodes.collect())
    }

    fn new(name: &str, mut nodes: Vec<Node>) -> Graph {
        // Plans are in topological order; a journal is only believed as far as it keeps to that.
        for (index, node) in nodes.iter_mut().enumerate() {
            node.needs.retain(|&need| need < index);
        }
        Graph { name: escaped(name).into_owned(), nodes }
    }

    /// For Graphviz.
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

    /// For Mermaid, which GitHub and GitLab draw in Markdown.
    pub fn to_mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        self.write_nodes(&mut text, "  subgraph finally\n", "  end\n", |index, node| {
            let label = format!("{}<br/>{}", mermaid_text(&node.id), mermaid_text(&node.uses));
            format!("n{index}[\"{label}\"]:::{}", node.state.class())
        });
        for (from, to) in self.edges() {
            let _ = writeln!(text, "  n{from} --> n{to}");
        }
        for state in State::ALL.into_iter().filter(|&state| self.nodes.iter().any(|node| node.state == state)) {
            let _ = writeln!(text, "  classDef {} stroke:{}", state.class(), state.color());
        }
        text
    }

    /// A picture that follows the reader's light or dark scheme.
    pub fn to_svg(&self) -> String {
        svg::draw(self)
    }

    fn write_nodes(&self, text: &mut String, open: &str, close: &str, node: impl Fn(usize, &Node) -> String) {
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

fn state(stage: &StageView) -> State {
    match &stage.status {
        Status::Pending => State::Planned,
        Status::Running | Status::Recovering { .. } => State::Running,
        Status::AwaitingEnvironment { .. } | Status::Waiting(_) | Status::Retrying { .. } => State::Waiting,
        Status::Ended { .. } if stage.undo_failure().is_some() => State::Bad,
        Status::Ended { .. } if stage.is_taken_back() => State::TakenBack,
        Status::Ended { .. } if stage.undone_since().is_some() => State::Running,
        Status::Ended { conclusion, .. } => match stage.status.shown().unwrap_or(*conclusion) {
            Outcome::Succeeded => State::Good,
            Outcome::Skipped | Outcome::Cancelled | Outcome::Rehearsed => State::Skipped,
            _ => State::Bad,
        },
    }
}

/// A string of the DOT language, line ends as `\n`.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Text within a quoted Mermaid label, which takes HTML and `#name;` entities.
fn mermaid_text(text: &str) -> String {
    text.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;").replace('&', "#amp;")
}
