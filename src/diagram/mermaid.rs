//! Mermaid, `stateDiagram-v2`: for documents on platforms that draw it.

use std::fmt::Write;

use super::anchors::Anchor;
use super::graph::{Ending, Graph};

/// Text of the light appearance of the SVG; Mermaid has no way to follow the reader's.
const CLASSES: [(Ending, &str, &str); 3] = [
    (Ending::Ok, "ok", "fill:#d5efe6,stroke:#00704f,color:#1f2933"),
    (Ending::Error, "error", "fill:#fbe2d3,stroke:#b34700,color:#1f2933"),
    (Ending::Cancelled, "cancelled", "fill:#e4e7eb,stroke:#52606d,color:#1f2933"),
];

/// The whole document.
pub(super) fn render(graph: &Graph) -> String {
    let mut text = String::new();
    let title = std::iter::once(graph.heading()).chain(graph.figures.iter().filter_map(|figures| figures.title.clone()));
    let title = title.collect::<Vec<_>>().join(", ");
    let _ = writeln!(text, "---\ntitle: {}\n---\nstateDiagram-v2", serde_json::Value::from(title));
    states(&mut text, graph, 0, 1);
    for edge in &graph.edges {
        let (from, to) = graph.anchors(edge);
        let lines: Vec<String> = edge.lines.iter().map(|line| escape(&graph.line(line))).collect();
        let _ = writeln!(text, "    {} --> {} : {}", id(graph, from), id(graph, to), lines.join("<br/>"));
    }
    for (ending, class, style) in CLASSES {
        let members: Vec<usize> = (0..graph.nodes.len()).filter(|node| graph.nodes[*node].ending == Some(ending)).collect();
        if !members.is_empty() {
            let ids: Vec<String> = members.iter().map(|node| id(graph, Anchor::State(*node))).collect();
            let _ = writeln!(text, "    classDef {class} {style}\n    class {} {class}", ids.join(","));
        }
    }
    text
}

/// The states inside `node`, with their starts and ends.
fn states(text: &mut String, graph: &Graph, node: usize, depth: usize) {
    let indent = "    ".repeat(depth);
    for anchor in graph.inner_anchors(node) {
        let _ = writeln!(text, "{indent}state \"{}\" as {}", escape(&anchor.label(graph)), id(graph, anchor));
    }
    for &child in &graph.nodes[node].children {
        let state = &graph.nodes[child];
        let rows = graph.rows(child);
        let lines: Vec<String> =
            std::iter::once(state.label.clone()).chain(rows.iter().map(super::graph::Row::plain)).map(|line| escape(&line)).collect();
        let _ = write!(text, "{indent}state \"{}\" as {}", lines.join("<br/>"), id(graph, Anchor::State(child)));
        if state.is_compound() {
            text.push_str(" {\n");
            states(text, graph, child, depth + 1);
            let _ = write!(text, "{indent}}}");
        }
        text.push('\n');
    }
    if let Some(initial) = graph.nodes[node].initial {
        let _ = writeln!(text, "{indent}[*] --> {}", id(graph, Anchor::State(initial)));
    }
    for &child in graph.nodes[node].children.iter().filter(|child| graph.nodes[**child].ending.is_some()) {
        let _ = writeln!(text, "{indent}{} --> [*]", id(graph, Anchor::State(child)));
    }
}

/// An id that is no keyword. Keys may have hyphens, which ids may not; the number keeps `a-b` and `a_b` apart.
fn id(graph: &Graph, anchor: Anchor) -> String {
    let name = graph.nodes[anchor.node()].name.replace(['.', '-'], "_");
    let joined = |word: &str, node: usize| format!("{word}{node}_{name}").trim_end_matches('_').to_owned();
    match anchor {
        Anchor::State(node) if graph.nodes[node].name.contains('-') => format!("s{node}_{name}"),
        Anchor::State(_) => format!("s_{name}"),
        Anchor::Any(node) => joined("any", node),
        Anchor::Again(node) => joined("again", node),
    }
}

/// What might mean something to Mermaid, to HTML or to Markdown is replaced by a character that looks like it: entities
/// (`#58;`) are the documented way, but labels of edges show them undecoded (seen in Mermaid 11.17).
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let begins_tag = rest.peek().is_some_and(|next| !next.is_whitespace());
        escaped.push(match c {
            c if !super::text::is_harmless(c) => ' ',
            ':' => '\u{2236}',
            '"' => '\u{201d}',
            '<' if begins_tag => '\u{2039}',
            ';' | '#' | '&' | '%' | '$' | '`' | '\\' => char::from_u32(u32::from(c) + 0xfee0).unwrap_or(' '),
            c => c,
        });
    }
    escaped
}
