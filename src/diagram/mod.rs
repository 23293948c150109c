//! Diagrams of machines.

mod anchors;
mod dot;
mod graph;
mod layout;
mod mermaid;
mod overlay;
mod read;
mod svg;
mod text;
mod units;
mod words;

pub use graph::Graph;
pub use overlay::{Overlay, StateOverlay};

/// What a diagram is written as.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// A `stateDiagram-v2` for Mermaid.
    Mermaid,
    /// A digraph for Graphviz.
    Dot,
    /// A finished picture.
    Svg,
}

/// Writes a graph in a format. The same graph gives the same bytes.
pub fn render(graph: &Graph, format: Format) -> String {
    match format {
        Format::Mermaid => mermaid::render(graph),
        Format::Dot => dot::render(graph),
        Format::Svg => svg::render(graph),
    }
}
