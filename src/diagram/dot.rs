//! DOT, for Graphviz.

use std::fmt::Write;

use super::anchors::Anchor;
use super::graph::{Edge, Ending, Graph, Row, Way};

/// The whole document.
pub(super) fn render(graph: &Graph) -> String {
    let mut text = String::new();
    let title: Vec<String> = std::iter::once(graph.heading()).chain(graph.subtitles().map(str::to_owned)).chain(rows(graph, 0)).collect();
    let _ = writeln!(text, "digraph {} {{", quoted(&[graph.root().label.clone()], ""));
    let _ = writeln!(
        text,
        "    graph [compound=true, newrank=true, fontname=\"Helvetica\", fontsize=13, labelloc=t, labeljust=l, label={}];",
        quoted(&title, "\\l")
    );
    text.push_str(
        "    node [shape=box, style=\"rounded,filled\", fillcolor=white, color=\"#52606d\", fontname=\"Helvetica\", fontsize=11];\n",
    );
    text.push_str("    edge [color=\"#616e7c\", fontname=\"Helvetica\", fontsize=10, arrowsize=0.8];\n");
    states(&mut text, graph, 0, 1);
    for edge in &graph.edges {
        draw(&mut text, graph, edge);
    }
    text.push_str("}\n");
    text
}

fn rows(graph: &Graph, node: usize) -> impl Iterator<Item = String> {
    graph.rows(node).into_iter().map(|row| Row::plain(&row))
}

fn states(text: &mut String, graph: &Graph, node: usize, depth: usize) {
    let indent = "    ".repeat(depth);
    for anchor in graph.inner_anchors(node) {
        let _ = writeln!(text, "{indent}{} [label={}, style=dashed];", id(graph, anchor), quoted(&[anchor.label(graph)], ""));
    }
    if let Some(initial) = graph.nodes[node].initial {
        let _ = writeln!(text, "{indent}start{node} [shape=circle, style=filled, fillcolor=\"#1f2933\", width=0.15, label=\"\"];");
        let (head, clip) = end(graph, Anchor::State(initial), "lhead");
        let _ = writeln!(text, "{indent}start{node} -> {head} [{}];", clip.unwrap_or_default());
    }
    for &child in &graph.nodes[node].children {
        let state = &graph.nodes[child];
        let lines: Vec<String> = std::iter::once(state.label.clone()).chain(rows(graph, child)).collect();
        let tooltip = quoted(&[state.description.clone().unwrap_or_else(|| state.name.clone())], "");
        if state.is_compound() {
            let _ = writeln!(text, "{indent}subgraph cluster_{child} {{");
            let label = quoted(&lines, "\\l");
            let _ = writeln!(
                text,
                "{indent}    graph [style=\"rounded,filled\", fillcolor=\"#f5f7f9\", color=\"#9aa5b1\", label={label}, tooltip={tooltip}];"
            );
            states(text, graph, child, depth + 1);
            let _ = writeln!(text, "{indent}}}");
            continue;
        }
        let look = match state.ending {
            Some(Ending::Ok) => ", peripheries=2, fillcolor=\"#d5efe6\", color=\"#00704f\"",
            Some(Ending::Error) => ", peripheries=2, fillcolor=\"#fbe2d3\", color=\"#b34700\"",
            Some(Ending::Cancelled) => ", peripheries=2, fillcolor=\"#e4e7eb\"",
            Some(Ending::Plain) => ", peripheries=2",
            None if state.parked => ", style=\"rounded,filled,dashed\"",
            None => "",
        };
        let label = quoted(&lines, "\\n");
        let _ = writeln!(text, "{indent}{} [label={label}, tooltip={tooltip}{look}];", id(graph, Anchor::State(child)));
    }
}

fn draw(text: &mut String, graph: &Graph, edge: &Edge) {
    let (from, to) = graph.anchors(edge);
    let (tail, tail_clip) = end(graph, from, "ltail");
    let (head, head_clip) = end(graph, to, "lhead");
    let lines: Vec<String> = edge.lines.iter().map(|line| graph.line(line)).collect();
    let mut attributes = vec![format!("label={}", quoted(&lines, "\\l"))];
    attributes.extend(tail_clip);
    attributes.extend(head_clip);
    attributes.extend(match edge.way() {
        _ if graph.is_idle(edge) => Some("style=dashed, color=\"#a9b3be\"".to_owned()),
        Way::Onward => Some("color=\"#1f2933\"".to_owned()),
        Way::Error => Some("color=\"#b34700\"".to_owned()),
        Way::Other => None,
    });
    if graph.figures.is_some() && !graph.is_idle(edge) {
        let halves = 1 + edge.magnitude();
        attributes.push(format!("penwidth={}.{}", halves / 2, halves % 2 * 5));
    }
    let _ = writeln!(text, "    {tail} -> {head} [{}];", attributes.join(", "));
}

/// A node to draw a line to, and the attribute that cuts it off at the border of a cluster.
fn end(graph: &Graph, anchor: Anchor, attribute: &str) -> (String, Option<String>) {
    match anchor {
        Anchor::State(node) if graph.nodes[node].is_compound() => {
            // Graphviz draws lines between nodes only; any node inside will do.
            let inside = |node: &usize| graph.nodes[*node].initial.or(graph.nodes[*node].children.first().copied());
            let leaf = std::iter::successors(Some(node), inside).last().unwrap_or(node);
            (id(graph, Anchor::State(leaf)), Some(format!("{attribute}=cluster_{node}")))
        }
        other => (id(graph, other), None),
    }
}

fn id(graph: &Graph, anchor: Anchor) -> String {
    match anchor {
        Anchor::State(node) => quoted(&[graph.nodes[node].name.clone()], ""),
        Anchor::Any(node) => format!("any{node}"),
        Anchor::Again(node) => format!("again{node}"),
    }
}

/// A quoted string of lines, each followed by `end`; if that is a plain line break, only between them.
fn quoted(lines: &[String], end: &str) -> String {
    let escape = |line: &String| -> String {
        let mut escaped = String::with_capacity(line.len());
        for c in line.chars() {
            match c {
                '"' => escaped.push_str("\\\""),
                '\\' => escaped.push_str("\\\\"),
                '&' => escaped.push_str("&amp;"),
                c if super::text::is_harmless(c) => escaped.push(c),
                _ => escaped.push(' '),
            }
        }
        escaped
    };
    let escaped: Vec<String> = lines.iter().map(escape).collect();
    match end {
        "\\l" => format!("\"{}\\l\"", escaped.join("\\l")),
        end => format!("\"{}\"", escaped.join(end)),
    }
}
