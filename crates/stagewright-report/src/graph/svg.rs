//! Writes a layout as SVG.

use std::fmt::Write;

use super::layout::{BOX_HEIGHT, GraphLayout, MARGIN, Placed, label, place};
use super::{Graph, GraphNode, NodeState};

/// Colours are repeated in each rule because SVG viewers other than browsers don't support custom properties.
const STYLE: &str = "\
text{font:13px ui-monospace,monospace;fill:#1f2328}
.uses,.group{font-size:11px;fill:#59636e}
rect{fill:#ffffff;stroke-width:1.5}
path{fill:none;stroke:#8c959f;stroke-width:1.5}
.arrow{fill:#8c959f;stroke:none}
.finally{fill:none;stroke:#8c959f;stroke-dasharray:4 4}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}
.uses,.group{fill:#9198a1}
rect{fill:#0d1117}
path,.finally{stroke:#6e7681}
.arrow{fill:#6e7681;stroke:none}
.finally{fill:none}
}
";

/// Length and width of an arrowhead.
const ARROW: usize = 8;

pub(super) fn draw(graph: &Graph) -> String {
    let layout = place(graph);
    let (width, height) = (layout.width, layout.height);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-labelledby=\"title\">\n<title id=\"title\">{}</title>\n<style>\n{STYLE}",
        escaped(&format!("Stages of {}", graph.name))
    );
    for state in NodeState::ALL {
        let _ = writeln!(svg, ".{} rect{{stroke:{}}}", state.class(), state.color());
    }
    svg.push_str("</style>\n");
    if let Some(x) = layout.finally {
        frame_finally(&mut svg, &layout, x);
    }
    for (from, to) in graph.edges() {
        edge(&mut svg, &layout, from, to);
    }
    for (node, placed) in graph.nodes.iter().zip(&layout.boxes) {
        stage(&mut svg, node, placed);
    }
    svg.push_str("</svg>\n");
    svg
}

fn frame_finally(svg: &mut String, layout: &GraphLayout, x: usize) {
    let (left, top) = (x - MARGIN / 2, MARGIN / 2);
    let (width, height) = (layout.width - left - MARGIN / 2, layout.height - MARGIN);
    let _ = writeln!(
        svg,
        "<rect class=\"finally\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n\
         <text class=\"group\" x=\"{left}\" y=\"{}\">finally</text>",
        top - 3
    );
}

fn edge(svg: &mut String, layout: &GraphLayout, from: usize, to: usize) {
    let (source, target) = (&layout.boxes[from], &layout.boxes[to]);
    let (mut x, mut y) = (source.x + source.width, source.y + BOX_HEIGHT / 2);
    let (end, end_y) = (target.x, target.y + BOX_HEIGHT / 2);
    let mut path = format!("M{x} {y}");
    let bend = |path: &mut String, from: (usize, usize), to: (usize, usize)| {
        let middle = usize::midpoint(from.0, to.0);
        let _ = write!(path, "C{middle} {} {middle} {} {} {}", from.1, to.1, to.0, to.1);
    };
    for (left, right, pass) in layout.passes(from, to) {
        bend(&mut path, (x, y), (left, pass));
        let _ = write!(path, "H{right}");
        (x, y) = (right, pass);
    }
    bend(&mut path, (x, y), (end - ARROW, end_y));
    let (above, below) = (end_y - ARROW / 2, end_y + ARROW / 2);
    let _ = writeln!(
        svg,
        "<path d=\"{path}\"/><path class=\"arrow\" d=\"M{0} {above}L{end} {end_y}L{0} {below}z\"/>",
        end - ARROW
    );
}

fn stage(svg: &mut String, node: &GraphNode, placed: &Placed) {
    let Placed { x, y, width } = placed;
    let state = node.state.word().map(|word| format!(", {word}")).unwrap_or_default();
    let title = escaped(&format!("{}: {}{state}", node.id, node.uses));
    let class = node.state.class();
    let (text, first, second) = (x + width / 2, y + 19, y + 35);
    let _ = writeln!(
        svg,
        "<g class=\"{class}\"><title>{title}</title><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" \
         height=\"{BOX_HEIGHT}\" rx=\"6\"/><text x=\"{text}\" y=\"{first}\" text-anchor=\"middle\">{}</text>\
         <text class=\"uses\" x=\"{text}\" y=\"{second}\" text-anchor=\"middle\">{}</text></g>",
        escaped(&label(&node.id)),
        escaped(&label(&node.uses)),
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
