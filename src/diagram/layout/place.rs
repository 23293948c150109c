//! X coordinates: nothing touches its neighbour in the row, and lines are as straight as they can be.
//!
//! As in Gansner, Koutsofios, North, Vo (1993), section 4.2, with places for the ends of lines on the boxes' borders.

use std::collections::BTreeMap;

use super::layers::{At, Item, Kind, Layers, Link};
use super::level::{PAD, PORT_GAP, PORT_INSET};
use super::simplex::Problem;

/// Where everything is from left to right.
pub(super) struct Columns {
    /// By item: its left side.
    pub left: Vec<i32>,
    /// By link: where it leaves the upper and where it meets the lower item.
    pub ends: Vec<(i32, i32)>,
    /// Of the whole level.
    pub width: i32,
    /// Lengths of lines, steps in lines and the width, each times its importance.
    pub cost: i64,
}

/// Distances that make a picture legible without making it wide.
fn gap(a: &Item, b: &Item) -> i32 {
    let is_line = |item: &Item| matches!(item.kind, Kind::Bend | Kind::Border);
    match (is_line(a), is_line(b)) {
        (true, true) => PORT_GAP,
        (false, false) if matches!((a.kind, b.kind), (Kind::Box(_), Kind::Box(_))) => 40,
        (false, false) => 18,
        _ => 20,
    }
}

pub(super) fn place(layers: &Layers) -> Columns {
    let mut placer = Placer::new(layers);
    placer.rows();
    placer.ports();
    let refs = placer.links();
    let at = placer.problem.solve();
    let mut columns = Columns {
        left: placer.items.iter().map(|variable| at[*variable]).collect(),
        ends: refs.iter().map(|&(upper, lower)| (at[upper.0] + upper.1, at[lower.0] + lower.1)).collect(),
        width: at[placer.right],
        cost: placer.problem.cost(&at),
    };
    columns.straighten(layers);
    columns
}

/// Steps up to this are taken out of lines at the expense of the distances kept.
const SLIGHT: i32 = 4;

impl Columns {
    /// Removes steps that are too small to be seen as such and only look like faults.
    fn straighten(&mut self, layers: &Layers) {
        for chain in &layers.chains {
            for (position, &link) in chain.iter().enumerate() {
                let step = self.step(link);
                if step == 0 || step.abs() > SLIGHT {
                    continue;
                }
                let Link { lower, upper_at, lower_at, .. } = layers.links[link];
                let next = chain.get(position + 1);
                if lower_at == At::Free {
                    self.ends[link].1 -= step;
                } else if upper_at == At::Free {
                    self.ends[link].0 += step;
                } else if let Some(&next) = next
                    && lower_at == At::Middle
                    && self.step(next) != 0
                {
                    self.left[lower] -= step;
                    self.ends[link].1 -= step;
                    self.ends[next].0 -= step;
                }
            }
        }
    }

    fn step(&self, link: usize) -> i32 {
        let (above, below) = self.ends[link];
        below - above
    }
}

/// Place of the other end in its row, place on that item, and the link.
type Key = (usize, i32, usize);

/// A side of a box.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Upper,
    Lower,
}

/// A variable and an offset to it.
type Ref = (usize, i32);

struct Placer<'l> {
    layers: &'l Layers,
    problem: Problem,
    left: usize,
    right: usize,
    items: Vec<usize>,
    /// By link: the variables of its ends where those are free.
    free: Vec<(Option<usize>, Option<usize>)>,
}

impl<'l> Placer<'l> {
    fn new(layers: &'l Layers) -> Placer<'l> {
        let mut problem = Problem::default();
        let left = problem.variable();
        let right = problem.variable();
        let items = layers.items.iter().map(|_| problem.variable()).collect();
        Placer { layers, problem, left, right, items, free: vec![(None, None); layers.links.len()] }
    }

    fn rows(&mut self) {
        let items = &self.layers.items;
        for row in &self.layers.rows {
            let (Some(&first), Some(&last)) = (row.first(), row.last()) else { continue };
            self.problem.apart(self.left, self.items[first], PAD, 0);
            self.problem.apart(self.items[last], self.right, items[last].size.w + PAD, 0);
            for pair in row.windows(2) {
                let distance = items[pair[0]].size.w + gap(&items[pair[0]], &items[pair[1]]);
                self.problem.apart(self.items[pair[0]], self.items[pair[1]], distance, 0);
            }
        }
        self.problem.apart(self.left, self.right, 2 * PAD, 8);
        for (item, variable) in items.iter().zip(&self.items) {
            if item.kind == Kind::Heading {
                self.problem.apart(self.left, *variable, PAD, 1000);
            }
        }
        for (&item, &x) in &self.layers.outside {
            self.problem.near((self.items[item], 0), (self.left, x), 2);
        }
    }

    /// Lines that end at the same side of a plain box do so in the order in which they come, apart from each other and
    /// from the box's corners, and near its middle.
    fn ports(&mut self) {
        let layers = self.layers;
        let mut places = vec![0; layers.items.len()];
        for row in &layers.rows {
            for (place, item) in row.iter().enumerate() {
                places[*item] = place;
            }
        }
        // The order in which lines come: where the other end is, then where on that.
        let key = |item: usize, at: At, link: usize| -> Key { (places[item], if let At::Fixed(offset) = at { offset } else { 0 }, link) };
        let mut sides: BTreeMap<(usize, Side), Vec<Key>> = BTreeMap::new();
        for &index in layers.chains.iter().flatten() {
            let link = &layers.links[index];
            if link.upper_at == At::Free {
                sides.entry((link.upper, Side::Lower)).or_default().push(key(link.lower, link.lower_at, index));
            }
            if link.lower_at == At::Free {
                sides.entry((link.lower, Side::Upper)).or_default().push(key(link.upper, link.upper_at, index));
            }
        }
        for ((item, side), mut ports) in sides {
            ports.sort_unstable();
            let width = layers.items[item].port_width;
            let mut before = (self.items[item], PORT_INSET);
            for (_, _, link) in ports {
                let port = self.problem.variable();
                self.problem.apart(before.0, port, before.1, 0);
                self.problem.near((port, 0), (self.items[item], width / 2), 1);
                match side {
                    Side::Upper => self.free[link].1 = Some(port),
                    Side::Lower => self.free[link].0 = Some(port),
                }
                before = (port, PORT_GAP);
            }
            // The last port stays off the right corner: said backwards, as a distance below zero.
            self.problem.apart(before.0, self.items[item], PORT_INSET - width, 0);
        }
    }

    fn links(&mut self) -> Vec<(Ref, Ref)> {
        let layers = self.layers;
        let mut refs = vec![((0, 0), (0, 0)); layers.links.len()];
        for &index in layers.chains.iter().flatten() {
            let link = &layers.links[index];
            let upper = self.end(link.upper, link.upper_at, self.free[index].0);
            let lower = self.end(link.lower, link.lower_at, self.free[index].1);
            let is_line = |item: usize| !matches!(layers.items[item].kind, Kind::Box(_));
            // A kink in the middle of a line is worse than one at its end.
            let stiffness = if is_line(link.upper) && is_line(link.lower) { 8 } else { 4 };
            self.problem.near(upper, lower, stiffness * link.weight);
            refs[index] = (upper, lower);
        }
        refs
    }

    fn end(&self, item: usize, at: At, free: Option<usize>) -> Ref {
        match (at, free) {
            (At::Fixed(offset), _) => (self.items[item], offset),
            (_, Some(port)) => (port, 0),
            _ => (self.items[item], self.layers.items[item].size.w / 2),
        }
    }
}
