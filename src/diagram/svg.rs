//! The picture as SVG: no scripts, no fonts, nothing from elsewhere, the same bytes for the same graph.

mod card;
mod legend;
mod style;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use card::{Card, Icon};

use super::graph::{Ending, Graph, Way};
use super::layout::{self, Drawing, Model, ModelEdge, ModelNode, Point, Rect, Size};
use super::text::escape;

/// Between the outermost frame and the edge of the picture.
const MARGIN: i32 = 12;
/// The radius of rounded corners of lines.
const CORNER: i32 = 6;
/// The length and width of an arrow head.
const HEAD: i32 = 9;
/// The diameter of the mark of an initial state.
const DOT: i32 = 12;

/// How a line is drawn.
struct Stroke {
    class: &'static str,
    /// Its width in half pixels where a count decides about it: one more for every power of ten.
    halves: Option<u32>,
}

/// A graph with the text of its boxes and the places of everything.
struct Picture<'g> {
    graph: &'g Graph,
    cards: Vec<Card>,
    labels: Vec<Card>,
    drawing: Drawing,
}

impl<'g> Picture<'g> {
    fn of(graph: &'g Graph) -> Picture<'g> {
        let cards: Vec<Card> = (0..graph.nodes.len())
            .map(|node| match &graph.nodes[node] {
                // The root's heading is the title above its frame.
                _ if node == 0 => Card::default(),
                state if state.is_compound() => Card::of_heading(graph, node),
                _ => Card::of_state(graph, node),
            })
            .collect();
        let labels: Vec<Card> = graph.edges.iter().map(|edge| Card::of_label(graph, &edge.lines)).collect();
        let drawing = layout::lay_out(&model(graph, &cards, &labels));
        Picture { graph, cards, labels, drawing }
    }
}

/// States first, in their order; then a dot for every initial state. Edges first; then the dots' arrows.
fn model(graph: &Graph, cards: &[Card], labels: &[Card]) -> Model {
    let mut model = Model::default();
    for (node, card) in graph.nodes.iter().zip(cards) {
        model.nodes.push(ModelNode { parent: node.parent, size: card.size, beside_heading: false });
    }
    for (edge, label) in graph.edges.iter().zip(labels) {
        let weight = if edge.way() == Way::Onward { 3 } else { 1 };
        model.edges.push(ModelEdge { from: edge.from, to: edge.to, label: Some(label.size), weight });
    }
    for (node, state) in graph.nodes.iter().enumerate() {
        if let Some(initial) = state.initial {
            model.edges.push(ModelEdge { from: model.nodes.len(), to: initial, label: None, weight: 2 });
            model.nodes.push(ModelNode { parent: Some(node), size: Size { w: DOT, h: DOT }, beside_heading: true });
        }
    }
    model
}

/// The whole document.
pub(super) fn render(graph: &Graph) -> String {
    let picture = Picture::of(graph);
    let size = picture.drawing.size;
    let legend = legend::Legend::of(graph, size.w);
    let title = Card::of_title(graph, size.w);
    let width = size.w.max(legend.size.w).max(title.size.w) + 2 * MARGIN;
    let height = title.size.h + size.h + legend.size.h + 2 * MARGIN;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"sg\" role=\"img\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">"
    );
    let _ = writeln!(svg, "<title>{}</title>\n<style>\n{}</style>", escape(&graph.heading()), style::sheet());
    let _ = writeln!(svg, "<rect class=\"card\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>");
    let _ = write!(svg, "<g transform=\"translate({MARGIN} {MARGIN})\">");
    text(&mut svg, &title, Rect::at(Point { x: 2, y: 0 }, title.size));
    let _ = writeln!(svg, "</g>\n<g transform=\"translate({MARGIN} {})\">", MARGIN + title.size.h);
    picture.frames(&mut svg);
    picture.edges(&mut svg);
    picture.states(&mut svg);
    legend.draw(&mut svg, size.h);
    svg.push_str("</g>\n</svg>\n");
    svg
}

impl Picture<'_> {
    fn frames(&self, svg: &mut String) {
        let mut depths = vec![0; self.graph.nodes.len()];
        for (node, state) in self.graph.nodes.iter().enumerate() {
            depths[node] = state.parent.map_or(0, |parent| depths[parent] + 1);
            if node > 0 && !state.is_compound() {
                continue;
            }
            let _ = write!(svg, "<g>{}", self.tooltip(node));
            rect(svg, &format!("frame{}", depths[node] % 2), self.drawing.boxes[node], 8);
            svg.push_str("</g>\n");
            let heading = self.drawing.headings[node];
            text(svg, &self.cards[node], heading);
        }
    }

    fn states(&self, svg: &mut String) {
        for (node, state) in self.graph.nodes.iter().enumerate().skip(1) {
            if state.is_compound() {
                continue;
            }
            let area = self.drawing.boxes[node];
            let _ = write!(svg, "<g>{}", self.tooltip(node));
            let class = match state.ending {
                Some(Ending::Ok) => "state ok",
                Some(Ending::Error) => "state failed",
                Some(Ending::Cancelled) => "state cancelled",
                _ if state.parked => "state parked",
                _ => "state",
            };
            rect(svg, class, area, 7);
            if state.ending.is_some() {
                rect(svg, class, Rect { x: area.x + 3, y: area.y + 3, w: area.w - 6, h: area.h - 6 }, 5);
            }
            text(svg, &self.cards[node], area);
            svg.push_str("</g>\n");
        }
        for area in &self.drawing.boxes[self.graph.nodes.len()..] {
            let _ = writeln!(svg, "<circle class=\"dot\" cx=\"{}\" cy=\"{}\" r=\"{}\"/>", area.x + DOT / 2, area.y + DOT / 2, DOT / 2);
        }
    }

    fn edges(&self, svg: &mut String) {
        // What was never taken lies below what was.
        let mut order: Vec<usize> = (0..self.drawing.routes.len()).collect();
        order.sort_by_key(|edge| self.graph.edges.get(*edge).is_some_and(|edge| !self.graph.is_idle(edge)));
        for &edge in &order {
            let route = &self.drawing.routes[edge];
            let Stroke { class, halves } = self.stroke(edge);
            let style = halves.map(|halves| format!(" style=\"stroke-width:{}.{}\"", halves / 2, halves % 2 * 5)).unwrap_or_default();
            let length = HEAD + halves.and_then(|halves| i32::try_from(halves).ok()).map_or(0, |halves| (halves - 3).max(0));
            let _ = writeln!(svg, "<path class=\"line{class}\"{style} d=\"{}\"/>", path(&route.points));
            let _ = writeln!(svg, "<path class=\"head{class}\" d=\"{}\"/>", head(&route.points, length));
            if let Some(start) = route.points.first().filter(|_| self.starts_at_frame(edge)) {
                let _ = writeln!(svg, "<circle class=\"origin{class}\" cx=\"{}\" cy=\"{}\" r=\"3.5\"/>", start.x, start.y);
            }
        }
        for &edge in &order {
            let Some((card, area)) = self.labels.get(edge).zip(self.drawing.routes[edge].label) else { continue };
            let _ = write!(svg, "<g><title>{}</title>", escape(&self.edge_tooltip(edge)));
            rect(svg, "label", area, 4);
            text(svg, card, area);
            svg.push_str("</g>\n");
        }
    }

    fn stroke(&self, edge: usize) -> Stroke {
        let Some(edge) = self.graph.edges.get(edge) else { return Stroke { class: " onward", halves: None } };
        let class = match edge.way() {
            _ if self.graph.is_idle(edge) => return Stroke { class: " idle", halves: None },
            Way::Onward => " onward",
            Way::Error => " error",
            Way::Other => "",
        };
        Stroke { class, halves: self.graph.figures.as_ref().map(|_| 1 + edge.magnitude()) }
    }

    /// The transition belongs to a state with states inside, so it may be taken in any of these.
    fn starts_at_frame(&self, edge: usize) -> bool {
        self.graph.edges.get(edge).is_some_and(|edge| edge.from != edge.to && self.graph.nodes[edge.from].is_compound())
    }

    fn tooltip(&self, node: usize) -> String {
        let state = &self.graph.nodes[node];
        let name = if node == 0 { &state.label } else { &state.name };
        let text = match &state.description {
            Some(description) => format!("{name}: {description}"),
            None => name.clone(),
        };
        format!("<title>{}</title>", escape(&text))
    }

    fn edge_tooltip(&self, edge: usize) -> String {
        let edge = &self.graph.edges[edge];
        let name = |node: usize| if node == 0 { &self.graph.nodes[node].label } else { &self.graph.nodes[node].name };
        let mut text = format!("{} → {}", name(edge.from), name(edge.to));
        for line in &edge.lines {
            text += &format!("\n{}", self.graph.line(line));
            if let Some(description) = &line.description {
                text += &format!(": {description}");
            }
        }
        text
    }
}

fn rect(svg: &mut String, class: &str, area: Rect, radius: i32) {
    let Rect { x, y, w, h } = area;
    let _ = write!(svg, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"{radius}\"/>");
}

/// Writes the lines of a card into its box.
fn text(svg: &mut String, card: &Card, area: Rect) {
    let top = area.y + (area.h - card.size.h) / 2;
    let pad = (card.size.w - card.lines.iter().map(|line| line.width + line.indent).max().unwrap_or(0)) / 2;
    for line in &card.lines {
        let y = top + line.y;
        let start = if card.left { area.x + pad + line.indent } else { area.x + (area.w - line.width) / 2 };
        let mut x = start;
        if let Some(icon) = line.icon {
            sign(svg, icon, Point { x, y: y - 9 });
            x += card::ICON_ROOM;
        }
        // Centred text without a sign stays centred in a font that is narrower than expected.
        let anchor = if card.left || line.icon.is_some() { "" } else { " text-anchor=\"middle\"" };
        let x = if anchor.is_empty() { x } else { area.x + area.w / 2 };
        match &line.runs[..] {
            [run] => {
                let _ = write!(svg, "<text class=\"{}\" x=\"{x}\" y=\"{y}\"{anchor}>{}</text>", run.class, escape(&run.text));
            }
            runs => {
                let _ = write!(svg, "<text x=\"{x}\" y=\"{y}\"{anchor}>");
                for (position, run) in runs.iter().enumerate() {
                    let gap = if position == 0 { "" } else { " " };
                    let _ = write!(svg, "{gap}<tspan class=\"{}\">{}</tspan>", run.class, escape(&run.text));
                }
                svg.push_str("</text>");
            }
        }
    }
    svg.push('\n');
}

/// A sign of 11 by 11 pixels. Drawn, not written: few fonts have these characters.
fn sign(svg: &mut String, icon: Icon, at: Point) {
    let (class, d) = match icon {
        Icon::Gear => (
            "sign",
            "M5.5 3.4a2.1 2.1 0 1 0 .01 0M5.5 .6v1.6M5.5 8.8v1.6M.6 5.5h1.6M8.8 5.5h1.6M2 2l1.2 1.2M7.8 7.8L9 9M2 9l1.2-1.2M7.8 3.2L9 2",
        ),
        Icon::Pause => ("sign", "M3.5 2v7M7.5 2v7"),
        Icon::Check => ("sign sign-ok", "M1.5 6l3 3L9.5 2.5"),
        Icon::Cross => ("sign sign-failed", "M2.2 2.2l6.6 6.6M8.8 2.2L2.2 8.8"),
        Icon::Ban => ("sign", "M5.5 1a4.5 4.5 0 1 0 .01 0M2.4 8.6l6.2-6.2"),
    };
    let _ = write!(svg, "<path class=\"{class}\" transform=\"translate({} {})\" d=\"{d}\"/>", at.x, at.y);
}

/// A line with rounded corners that ends inside its arrow head.
fn path(points: &[Point]) -> String {
    let [first, .., last] = points else { return String::new() };
    let mut d = format!("M{} {}", first.x, first.y);
    for corner in points.windows(3) {
        let [before, here, after] = [corner[0], corner[1], corner[2]];
        let radius = CORNER.min(length(before, here) / 2).min(length(here, after) / 2);
        let (a, b) = (towards(here, before, radius), towards(here, after, radius));
        let _ = write!(d, "L{} {}Q{} {} {} {}", a.x, a.y, here.x, here.y, b.x, b.y);
    }
    let end = towards(*last, points[points.len() - 2], HEAD / 2);
    let _ = write!(d, "L{} {}", end.x, end.y);
    d
}

/// An arrow head, larger for wider lines.
fn head(points: &[Point], length: i32) -> String {
    let [.., before, tip] = points else { return String::new() };
    let base = towards(*tip, *before, length);
    let (across_x, across_y) = ((tip.y - base.y).signum() * length / 2, (tip.x - base.x).signum() * length / 2);
    let (a, b) = ((base.x + across_x, base.y + across_y), (base.x - across_x, base.y - across_y));
    format!("M{} {}L{} {}L{} {}Z", tip.x, tip.y, a.0, a.1, b.0, b.1)
}

fn length(a: Point, b: Point) -> i32 {
    (a.x - b.x).abs() + (a.y - b.y).abs()
}

/// `distance` from `from` towards `to`, along a horizontal or vertical line.
fn towards(from: Point, to: Point, distance: i32) -> Point {
    Point { x: from.x + (to.x - from.x).signum() * distance, y: from.y + (to.y - from.y).signum() * distance }
}
