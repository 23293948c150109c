//! Diagrams of machines: Mermaid, DOT, and finished pictures in SVG without the help of another program.
//!
//! ```text
//! Machine ──Graph::of──▶ Graph ──overlay(figures of a run)──▶ Graph ──render──▶ text of one of the formats
//!           words only: no events,                                     SVG: cards (text) ▸ layout (places) ▸ svg
//!           guards or delays any more
//! ```
//!
//! People are never shown the names that the machine gives its own events (`xstate.after…`): a transition is `done`,
//! `error`, `always`, `after stageTimeout (30 s)`, or the event by its name. A transition that a state with states
//! inside has is drawn once, from that state's frame.
//!
//! ```
//! use sluicegate::diagram::{Format, Graph, Overlay, render};
//! use sluicegate::fsm::{CompileOptions, Definition, compile};
//!
//! let definition: Definition = serde_json::from_str(r#"{
//!     "id": "light", "initial": "red",
//!     "states": { "red": { "after": { "30000": "green" } }, "green": { "after": { "60000": "red" } } }
//! }"#)?;
//! let machine = compile(definition, &CompileOptions::default()).expect("it has no finding");
//! let mut graph = Graph::of(&machine);
//! assert!(render(&graph, Format::Mermaid).contains("s_red --> s_green : after 30 s"));
//!
//! let mut run = Overlay::default();
//! run.edges.insert(("red".into(), "green".into(), "xstate.after.30000.light.red".into()), 2419);
//! graph.overlay(&run);
//! assert!(render(&graph, Format::Mermaid).contains("s_red --> s_green : after 30 s · 2,419"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
    /// A `stateDiagram-v2` for Mermaid, which many platforms draw inside Markdown.
    Mermaid,
    /// A digraph for Graphviz.
    Dot,
    /// A finished picture, for light and dark surroundings.
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
