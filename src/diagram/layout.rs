//! Layered layout of boxes in boxes (Sugiyama, Tagawa, Toda: "Methods for Visual Understanding of Hierarchical System
//! Structures", 1981), one level of nesting at a time.
//!
//! ```text
//! outside in:  ranks (which way is down), hops (where an edge enters and leaves each box)
//! inside out:  rows ▸ order ▸ x ▸ channels ▸ size, and places for the ends of edges on the border
//! ```
//!
//! A level is flat: a state with states inside is one big box there. So an edge passes no box but those around its own
//! ends, and it enters and leaves these by their upper or lower side. Everything has its own place: lines run down
//! between the boxes of a row and sideways in the channels between rows; a label is a small box in the way of its line.

mod channel;
#[cfg(test)]
pub(super) mod geometry;
mod hops;
mod layers;
mod level;
mod order;
mod place;
mod rank;
mod simplex;

use level::Level;

/// A place, in pixels.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub x: i32,
    pub y: i32,
}

/// Width and height, in pixels.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub w: i32,
    pub h: i32,
}

/// A box, in pixels.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rect {
    pub x: i32,
    pub y: i32,
    pub w: i32,
    pub h: i32,
}

/// What is to be laid out. Node 0 is the outermost box.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub nodes: Vec<ModelNode>,
    pub edges: Vec<ModelEdge>,
}

#[derive(Debug)]
pub(super) struct ModelNode {
    /// `None` for node 0 only; smaller than the node's own number.
    pub parent: Option<usize>,
    /// Of the box; of the heading when there are boxes inside.
    pub size: Size,
    /// Stands beside the heading of the box around it: the mark of an initial state.
    pub beside_heading: bool,
}

#[derive(Debug)]
pub(super) struct ModelEdge {
    pub from: usize,
    pub to: usize,
    pub label: Option<Size>,
    /// How much it matters that the edge is short and straight; at least 1.
    pub weight: i64,
}

/// Where everything is.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    /// By node.
    pub boxes: Vec<Rect>,
    /// By node; where its heading or text is.
    pub headings: Vec<Rect>,
    /// By edge.
    pub routes: Vec<Route>,
    /// Of the outermost box with its loops.
    pub size: Size,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    /// From the border of one box to that of the other, by horizontal and vertical lines.
    pub points: Vec<Point>,
    /// The line runs through its middle.
    pub label: Option<Rect>,
}

impl Rect {
    pub fn at(origin: Point, size: Size) -> Rect {
        Rect { x: origin.x, y: origin.y, w: size.w, h: size.h }
    }

    pub fn right(&self) -> i32 {
        self.x + self.w
    }

    pub fn moved(self, by: Point) -> Rect {
        Rect { x: self.x + by.x, y: self.y + by.y, ..self }
    }
}

impl Point {
    pub fn moved(self, by: Point) -> Point {
        Point { x: self.x + by.x, y: self.y + by.y }
    }
}

impl Model {
    pub fn children(&self, node: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|child| self.nodes[*child].parent == Some(node)).collect()
    }

    /// `node` and those around it, the outermost last.
    fn chain(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(node), |node| self.nodes[*node].parent)
    }

    /// The child of `outer` that is `node` or has it inside; `None` when `node` is not inside `outer`.
    fn child_towards(&self, outer: usize, node: usize) -> Option<usize> {
        self.chain(node).find(|child| self.nodes[*child].parent == Some(outer))
    }
}

/// Times that all levels are laid out. The first time a level knows nothing of what is around it; each further time its
/// border follows what the time before has put outside.
const PASSES: usize = 3;

/// By box, edge, and true for the upper border: where, from left to right, the edge goes on outside.
type Wishes = std::collections::BTreeMap<(usize, usize, bool), i32>;

/// Lays out a model.
pub(super) fn lay_out(model: &Model) -> Drawing {
    let plan = hops::plan(model);
    let mut levels: Vec<Option<Level>> = Vec::new();
    let mut wishes = Wishes::new();
    for _ in 0..PASSES {
        levels = (0..model.nodes.len()).map(|_| None).collect();
        for node in (0..model.nodes.len()).rev() {
            if node == 0 || !model.children(node).is_empty() {
                levels[node] = Some(level::lay_out(model, &plan, node, &levels, &wishes));
            }
        }
        wishes = levels.iter().flatten().flat_map(|level| level.wishes.iter().copied()).collect();
    }
    assemble(model, &plan, &levels)
}

/// Level drawings are relative to the upper left corner of their box; this moves them to their places.
fn assemble(model: &Model, plan: &hops::Plan, levels: &[Option<Level>]) -> Drawing {
    let mut drawing = Drawing {
        boxes: vec![Rect::default(); model.nodes.len()],
        headings: vec![Rect::default(); model.nodes.len()],
        routes: vec![Route::default(); model.edges.len()],
        size: Size::default(),
    };
    let outermost = level::Block::of(model, plan, 0, levels);
    drawing.size = outermost.size;
    drawing.boxes[0] = Rect::at(Point::default(), outermost.own);
    place_loops(&outermost, Point::default(), &mut drawing);
    for (node, level) in levels.iter().enumerate() {
        let origin = Point { x: drawing.boxes[node].x, y: drawing.boxes[node].y };
        drawing.headings[node] = drawing.boxes[node];
        let Some(level) = level else { continue };
        drawing.headings[node] = level.heading.moved(origin);
        for (child, block, at) in &level.children {
            let at = at.moved(origin);
            drawing.boxes[*child] = Rect::at(at, block.own);
            place_loops(block, at, &mut drawing);
        }
    }
    for (edge, route) in drawing.routes.iter_mut().enumerate() {
        for &(node, hop) in &plan.paths[edge] {
            let Some(level) = &levels[node] else { continue };
            let origin = Point { x: drawing.boxes[node].x, y: drawing.boxes[node].y };
            route.points.extend(level.lines[hop].iter().map(|point| point.moved(origin)));
            route.label = route.label.or(level.labels[hop].map(|label| label.moved(origin)));
        }
        tidy(&mut route.points);
    }
    drawing
}

fn place_loops(block: &level::Block, at: Point, drawing: &mut Drawing) {
    for (edge, route) in &block.loops {
        let points = route.points.iter().map(|point| point.moved(at)).collect();
        drawing.routes[*edge] = Route { points, label: route.label.map(|label| label.moved(at)) };
    }
}

/// Drops points that are there twice or in the middle of a straight line.
fn tidy(points: &mut Vec<Point>) {
    let mut kept: Vec<Point> = Vec::with_capacity(points.len());
    for &point in points.iter() {
        if kept.last() == Some(&point) {
            continue;
        }
        if let [.., a, b] = kept[..]
            && ((a.x == b.x && b.x == point.x) || (a.y == b.y && b.y == point.y))
        {
            kept.pop();
        }
        kept.push(point);
    }
    *points = kept;
}
