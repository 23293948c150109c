//! One level from rows to a finished rectangle.

use std::collections::BTreeMap;

use super::channel::{self, Course, Line};
use super::hops::{End, Plan};
use super::layers::{Item, Kind, Layers};
use super::place::{self, Columns};
use super::{Model, Point, Rect, Route, Size, Wishes, order};

/// Between a box's border and what is inside.
pub(super) const PAD: i32 = 16;
/// Between the ends of lines on a border.
pub(super) const PORT_GAP: i32 = 16;
/// Between a corner of a box and the first end of a line.
pub(super) const PORT_INSET: i32 = 14;
/// Between tracks.
const TRACK: i32 = 10;
/// Between a row and the first or last track: room for a rounded corner, below also for an arrow head.
const ABOVE_TRACKS: i32 = 12;
const BELOW_TRACKS: i32 = 18;
/// Between rows without tracks.
const ROW_GAP: i32 = 22;
/// Between the upper border and the heading.
const TOP_GAP: i32 = 10;
/// Between a box and the label of its loop: room for an arrow head.
const LOOP_GAP: i32 = 26;

/// A finished level, relative to the upper left corner of the box around it.
#[derive(Debug)]
pub(super) struct Level {
    pub size: Size,
    pub heading: Rect,
    /// The boxes with their upper left corners.
    pub children: Vec<(usize, Block, Point)>,
    /// By hop, from its source to its target.
    pub lines: Vec<Vec<Point>>,
    /// By hop.
    pub labels: Vec<Option<Rect>>,
    /// By edge, and true for the upper border: where it meets the border.
    pub borders: BTreeMap<(usize, bool), i32>,
    /// What the boxes should know about their edges: see [`Wishes`].
    pub wishes: Vec<((usize, usize, bool), i32)>,
}

/// A box with the loops that hang on it.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// The box alone; its corner is the block's.
    pub own: Size,
    pub size: Size,
    pub loops: Vec<(usize, Route)>,
}

impl Block {
    pub fn of(model: &Model, plan: &Plan, node: usize, levels: &[Option<Level>]) -> Block {
        let (mut own, middle) = match &levels[node] {
            Some(level) => (level.size, level.heading.y + level.heading.h / 2),
            None if model.nodes[node].beside_heading => (model.nodes[node].size, 0),
            None => (widened(model, plan, node), model.nodes[node].size.h / 2),
        };
        let mut block = Block { own, size: own, loops: Vec::new() };
        for (edge, ends) in model.edges.iter().enumerate().filter(|(_, edge)| edge.from == node && edge.to == node) {
            let label = ends.label.unwrap_or(Size { w: 16, h: 20 });
            own.h = own.h.max(label.h);
            let middle = middle.max(label.h / 2);
            let label = Rect { x: own.w + LOOP_GAP, y: middle - label.h / 2, ..Rect::at(Point::default(), label) };
            let reach = (label.h / 2 - 3).clamp(3, 8);
            let turn = label.x + label.w / 2;
            let points = [(own.w, -reach), (turn, -reach), (turn, reach), (own.w, reach)];
            let points = points.into_iter().map(|(x, y)| Point { x, y: middle + y }).collect();
            block = Block { own, size: Size { w: label.right(), h: own.h }, loops: vec![(edge, Route { points, label: Some(label) })] };
        }
        block
    }
}

/// The size of a plain box with room for all lines that end at it.
fn widened(model: &Model, plan: &Plan, node: usize) -> Size {
    let size = model.nodes[node].size;
    let Some(parent) = model.nodes[node].parent else { return size };
    let mut sides = [0, 0];
    for hop in &plan.hops[parent] {
        let down = plan.goes_down(hop);
        sides[usize::from(down)] += i32::from(hop.from == End::Child(node));
        sides[usize::from(!down)] += i32::from(hop.to == End::Child(node));
    }
    let ports = sides[0].max(sides[1]);
    Size { w: size.w.max(2 * PORT_INSET + (ports - 1).max(0) * PORT_GAP), ..size }
}

pub(super) fn lay_out(model: &Model, plan: &Plan, node: usize, levels: &[Option<Level>], wishes: &Wishes) -> Level {
    let mut layers = Layers::of(model, plan, node, levels, wishes);
    let columns = arrange(&mut layers);
    let rows = Rows::of(&layers, &columns);
    let mut level = Level {
        size: Size { w: columns.width, h: rows.height },
        heading: Rect::default(),
        children: Vec::new(),
        lines: Vec::new(),
        labels: vec![None; layers.chains.len()],
        borders: layers.borders.iter().map(|(key, item)| (*key, columns.left[*item])).collect(),
        wishes: wishes_for_boxes(plan, node, &layers, &columns),
    };
    let corners: Vec<Point> = (0..layers.items.len()).map(|item| Point { x: columns.left[item], y: rows.top_of(&layers, item) }).collect();
    for (item, &corner) in layers.items.iter().zip(&corners) {
        match item.kind {
            Kind::Box(position) => {
                let (child, block) = &layers.children[position];
                level.children.push((*child, block.clone(), corner));
            }
            Kind::Heading => level.heading = Rect::at(corner, item.size),
            Kind::Label(hop) => level.labels[hop] = Some(Rect::at(corner, item.size)),
            Kind::Bend | Kind::Border => {}
        }
    }
    for (hop, chain) in plan.hops[node].iter().zip(&layers.chains) {
        let mut points = rows.line(&layers, &columns, &corners, chain);
        if !plan.goes_down(hop) {
            points.reverse();
        }
        level.lines.push(points);
    }
    level
}

/// What a crossing costs, in the units of [`Columns::cost`]: a picture may be 50 pixels wider to avoid it.
const CROSSING: i64 = 400;
/// Orders whose columns are worked out, for levels of ordinary size. Large ones take the order with the fewest crossings.
const TRIED: usize = 6;
const ORDINARY: usize = 160;

/// Orders the rows and finds the columns.
fn arrange(layers: &mut Layers) -> Columns {
    let tried = if layers.items.len() <= ORDINARY { TRIED } else { 1 };
    let mut best: Option<(i64, Columns, Vec<Vec<usize>>)> = None;
    for order in order::orders(layers).into_iter().take(tried) {
        layers.rows = order.rows;
        let columns = place::place(layers);
        let cost = columns.cost + i64::try_from(order.crossings).unwrap_or(i64::MAX / CROSSING) * CROSSING;
        if best.as_ref().is_none_or(|(least, _, _)| cost < *least) {
            best = Some((cost, columns, layers.rows.clone()));
        }
    }
    let Some((_, columns, rows)) = best else { return place::place(layers) };
    layers.rows = rows;
    columns
}

/// Where the edges of each box go on, from the left side of the box.
fn wishes_for_boxes(plan: &Plan, node: usize, layers: &Layers, columns: &Columns) -> Vec<((usize, usize, bool), i32)> {
    let mut wishes = Vec::new();
    let mut wish = |item: usize, edge: usize, is_top: bool, x: i32| {
        if let Kind::Box(position) = layers.items[item].kind {
            wishes.push(((layers.children[position].0, edge, is_top), x - columns.left[item]));
        }
    };
    for (hop, chain) in plan.hops[node].iter().zip(&layers.chains) {
        let (Some(&first), Some(&last)) = (chain.first(), chain.last()) else { continue };
        wish(layers.links[first].upper, hop.edge, false, columns.ends[first].1);
        wish(layers.links[last].lower, hop.edge, true, columns.ends[last].0);
    }
    wishes
}

/// Where everything is from top to bottom.
struct Rows {
    tops: Vec<i32>,
    heights: Vec<i32>,
    /// By link.
    courses: Vec<Course>,
    /// By row: the first track below it.
    first_tracks: Vec<i32>,
    height: i32,
}

impl Rows {
    fn of(layers: &Layers, columns: &Columns) -> Rows {
        let count = layers.rows.len();
        let height = |row: &Vec<usize>| row.iter().map(|item| layers.items[*item].size.h).max().unwrap_or(0);
        let mut rows = Rows {
            tops: Vec::with_capacity(count),
            heights: layers.rows.iter().map(height).collect(),
            courses: vec![Course::new(); layers.links.len()],
            first_tracks: Vec::with_capacity(count),
            height: 0,
        };
        let by_row = layers.links_by_row();
        let mut y = 0;
        for (row, links) in by_row.iter().enumerate() {
            rows.tops.push(y);
            y += rows.heights[row];
            let lines: Vec<Line> = links.iter().map(|link| columns.ends[*link]).map(|(top, bottom)| Line { top, bottom }).collect();
            let (courses, tracks) = channel::route(&lines);
            for (link, course) in links.iter().zip(courses) {
                rows.courses[*link] = course;
            }
            rows.first_tracks.push(y + ABOVE_TRACKS);
            let gap = if row == 0 { TOP_GAP } else { ROW_GAP };
            let tracks = i32::try_from(tracks).unwrap_or(i32::MAX);
            y += if tracks == 0 { gap } else { ABOVE_TRACKS + (tracks - 1) * TRACK + BELOW_TRACKS };
        }
        let ends_at_border = layers.rows.last().is_some_and(|row| row.iter().any(|item| layers.items[*item].kind == Kind::Border));
        rows.height = match (ends_at_border, rows.tops.last()) {
            (true, Some(top)) => *top,
            (_, Some(top)) => top + rows.heights[count - 1] + PAD,
            (_, None) => 0,
        };
        rows
    }

    /// The upper side of an item: in the middle of its row, but near the lines that end at it if they all come from one
    /// side.
    fn top_of(&self, layers: &Layers, item: usize) -> i32 {
        let Item { kind, row, size, .. } = layers.items[item];
        let spare = self.heights[row] - size.h;
        let [from_above, from_below] = layers.chains.iter().flatten().fold([false, false], |[above, below], link| {
            let link = &layers.links[*link];
            [above || link.lower == item, below || link.upper == item]
        });
        let shift = match (kind, from_above, from_below) {
            (Kind::Heading, _, _) | (Kind::Box(_), true, false) => 0,
            (Kind::Box(_), false, true) => spare,
            _ => spare / 2,
        };
        self.tops[row] + shift
    }

    /// The points of a hop from the top down.
    fn line(&self, layers: &Layers, columns: &Columns, corners: &[Point], chain: &[usize]) -> Vec<Point> {
        let mut points = Vec::new();
        for &index in chain {
            let link = &layers.links[index];
            let (mut x, bottom) = columns.ends[index];
            points.push(Point { x, y: corners[link.upper].y + self.own_height(layers, link.upper) });
            let first_track = self.first_tracks[layers.items[link.upper].row];
            for &(track, next) in &self.courses[index] {
                let y = first_track + i32::try_from(track).unwrap_or(0) * TRACK;
                points.extend([Point { x, y }, Point { x: next, y }]);
                x = next;
            }
            points.push(Point { x: bottom, y: corners[link.lower].y });
        }
        points
    }

    fn own_height(&self, layers: &Layers, item: usize) -> i32 {
        match layers.items[item].kind {
            Kind::Box(position) => layers.children[position].1.own.h,
            _ => layers.items[item].size.h,
        }
    }
}
