//! The layout as SVG.

use std::fmt::Write;

use super::layout::{BOX_HEIGHT, COLUMN_GAP, Layout, MARGIN, Placed, label, place};
use super::{Graph, Node, State};

/// Colours are written out: readers other than browsers know no custom properties.
const STYLE: &str = "\
text{font:13px ui-monospace,monospace;fill:#1f2328}
.uses,.group{font-size:11px;fill:#59636e}
rect{fill:#ffffff;stroke-width:1.5}
path{fill:none;stroke:#8c959f;stroke-width:1.5}
.finally{fill:none;stroke:#8c959f;stroke-dasharray:4 4}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}
.uses,.group{fill:#9198a1}
rect{fill:#0d1117}
path,.finally{stroke:#6e7681}
.finally{fill:none}
}
";

/// How far the control points of an edge over several columns are lowered: enough to pass below the boxes between.
const DETOUR: usize = 52;

pub(super) fn draw(graph: &Graph) -> String {
    let layout = place(graph);
    let Layout { width, height, .. } = layout;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-labelledby=\"title\">\n<title id=\"title\">{}</title>\n<style>\n{STYLE}",
        escaped(&format!("Stages of {}", graph.name))
    );
    for state in State::ALL {
        let _ = writeln!(svg, ".{} rect{{stroke:{}}}", state.class(), state.color());
    }
    svg.push_str("</style>\n");
    if let Some(x) = layout.finally {
        frame_finally(&mut svg, &layout, x);
    }
    for (from, to) in graph.edges() {
        edge(&mut svg, &layout.boxes[from], &layout.boxes[to]);
    }
    for (node, placed) in graph.nodes.iter().zip(&layout.boxes) {
        stage(&mut svg, node, placed);
    }
    svg.push_str("</svg>\n");
    svg
}

fn frame_finally(svg: &mut String, layout: &Layout, x: usize) {
    let (left, top) = (x - MARGIN / 2, MARGIN / 2);
    let (width, height) = (layout.width - left - MARGIN / 2, layout.height - MARGIN);
    let _ = writeln!(
        svg,
        "<rect class=\"finally\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n\
         <text class=\"group\" x=\"{left}\" y=\"{}\">finally</text>",
        top - 3
    );
}

fn edge(svg: &mut String, from: &Placed, to: &Placed) {
    let (x1, y1) = (from.x + from.width, from.y + BOX_HEIGHT / 2);
    let (x2, y2) = (to.x, to.y + BOX_HEIGHT / 2);
    if x2 - x1 > COLUMN_GAP {
        let (below1, below2) = (y1 + DETOUR, y2 + DETOUR);
        let (near1, near2) = (x1 + COLUMN_GAP, x2 - COLUMN_GAP);
        let _ = writeln!(svg, "<path d=\"M{x1} {y1}C{near1} {below1} {near2} {below2} {x2} {y2}\"/>");
        return;
    }
    let middle = usize::midpoint(x1, x2);
    let _ = writeln!(svg, "<path d=\"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}\"/>");
}

fn stage(svg: &mut String, node: &Node, placed: &Placed) {
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
