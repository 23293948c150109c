//! A level as rows of items: boxes, labels, and the bends of lines that pass a row by.

use std::collections::BTreeMap;

use super::hops::{End, Hop, Plan};
use super::level::{Block, Level};
use super::{Model, Size, Wishes};

/// Something that has a place of its own in a row.
#[derive(Copy, Clone, Debug)]
pub(super) struct Item {
    pub kind: Kind,
    pub row: usize,
    pub size: Size,
    /// The part that lines may end at, from the left; narrower than `size` where a loop hangs on a box.
    pub port_width: i32,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A box, by its position in `Layers::children`.
    Box(usize),
    /// The name of the box around the level, always on the left.
    Heading,
    /// The label of a hop.
    Label(usize),
    /// A hop passes by.
    Bend,
    /// An edge meets the border of the box around the level.
    Border,
}

/// A piece of a hop between two neighbouring rows.
#[derive(Copy, Clone, Debug)]
pub(super) struct Link {
    pub upper: usize,
    pub lower: usize,
    pub upper_at: At,
    pub lower_at: At,
    pub weight: i64,
}

/// Where a link meets an item.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    Middle,
    /// So far from the left: a box with a drawing inside, which decides about its borders.
    Fixed(i32),
    /// Anywhere on the border of a plain box.
    Free,
}

/// The rows of one level.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub items: Vec<Item>,
    /// Items from left to right.
    pub rows: Vec<Vec<usize>>,
    pub links: Vec<Link>,
    /// By hop: its links from the top down.
    pub chains: Vec<Vec<usize>>,
    /// The boxes.
    pub children: Vec<(usize, Block)>,
    /// By edge that meets the border, and true for the upper side: its item.
    pub borders: BTreeMap<(usize, bool), usize>,
    /// By item on the border: where its edge goes on outside.
    pub outside: BTreeMap<usize, i32>,
}

/// Rows are numbered before the empty ones are dropped: 0 is the upper border, 1 the heading, then a row of labels and
/// a row of boxes for every rank, a last row of labels, and the lower border.
fn box_row(rank: usize) -> usize {
    2 * rank + 1
}

impl Layers {
    pub fn of(model: &Model, plan: &Plan, level: usize, levels: &[Option<Level>], wishes: &Wishes) -> Layers {
        let children = model.children(level);
        let deepest = children.iter().map(|child| plan.ranks[*child]).max().unwrap_or(0);
        let rows = box_row(deepest) + 3;
        let mut builder = Builder { model, plan, levels, layers: Layers::default(), items_of: BTreeMap::new(), raw_rows: rows };
        builder.layers.rows = vec![Vec::new(); rows];
        let heading = model.nodes[level].size;
        builder.add(Kind::Heading, 1, heading);
        for child in children {
            builder.add_child(child);
        }
        for (position, hop) in plan.hops[level].iter().enumerate() {
            builder.add_hop(level, position, hop);
        }
        for &(edge, side) in &plan.ends[level] {
            builder.add_border(edge, side);
        }
        for (&(edge, is_top), item) in &builder.layers.borders {
            if let Some(x) = wishes.get(&(level, edge, is_top)) {
                builder.layers.outside.insert(*item, *x);
            }
        }
        builder.layers.drop_empty_rows()
    }

    /// Rows that hold nothing but bends are only longer lines.
    fn drop_empty_rows(mut self) -> Layers {
        let is_needed = |row: &Vec<usize>| row.iter().any(|item| self.items[*item].kind != Kind::Bend);
        let mut kept: Vec<bool> = self.rows.iter().map(is_needed).collect();
        // The upper border is always there.
        kept[0] = true;
        for chain in &mut self.chains {
            let mut merged: Vec<usize> = Vec::new();
            for &link in chain.iter() {
                let last = merged.last().map(|last| self.links[*last]);
                match last {
                    Some(last) if !kept[self.items[last.lower].row] => {
                        let above = *merged.last().unwrap_or(&link);
                        let Link { lower, lower_at, weight, .. } = self.links[link];
                        self.links[above] = Link { lower, lower_at, weight: weight.max(last.weight), ..last };
                    }
                    _ => merged.push(link),
                }
            }
            *chain = merged;
        }
        let numbers: Vec<usize> = kept.iter().scan(0, |next, kept| Some(std::mem::replace(next, *next + usize::from(*kept)))).collect();
        for item in &mut self.items {
            item.row = numbers[item.row];
        }
        let mut keep = kept.iter();
        self.rows.retain(|_| *keep.next().unwrap_or(&true));
        self
    }

    /// The links that begin in each row.
    pub fn links_by_row(&self) -> Vec<Vec<usize>> {
        let mut by_row = vec![Vec::new(); self.rows.len()];
        for &link in self.chains.iter().flatten() {
            by_row[self.items[self.links[link].upper].row].push(link);
        }
        by_row
    }
}

struct Builder<'a> {
    model: &'a Model,
    plan: &'a Plan,
    levels: &'a [Option<Level>],
    layers: Layers,
    /// By node.
    items_of: BTreeMap<usize, usize>,
    raw_rows: usize,
}

impl Builder<'_> {
    fn add(&mut self, kind: Kind, row: usize, size: Size) -> usize {
        let item = self.layers.items.len();
        self.layers.items.push(Item { kind, row, size, port_width: size.w });
        self.layers.rows[row].push(item);
        item
    }

    fn add_child(&mut self, child: usize) {
        let block = Block::of(self.model, self.plan, child, self.levels);
        let kind = Kind::Box(self.layers.children.len());
        let item = self.add(kind, box_row(self.plan.ranks[child]), block.size);
        self.layers.items[item].port_width = block.own.w;
        self.layers.children.push((child, block));
        self.items_of.insert(child, item);
    }

    fn add_border(&mut self, edge: usize, side: End) -> usize {
        let row = if side == End::Top { 0 } else { self.raw_rows - 1 };
        let item = self.add(Kind::Border, row, Size::default());
        self.layers.borders.insert((edge, side == End::Top), item);
        item
    }

    fn end(&mut self, edge: usize, end: End, is_upper: bool) -> (usize, At) {
        let End::Child(child) = end else { return (self.add_border(edge, end), At::Middle) };
        let item = self.items_of[&child];
        match &self.levels[child] {
            // The lower border of what is above, the upper border of what is below.
            Some(level) => (item, At::Fixed(level.borders.get(&(edge, !is_upper)).copied().unwrap_or(0))),
            None if self.model.nodes[child].beside_heading => (item, At::Middle),
            None => (item, At::Free),
        }
    }

    fn add_hop(&mut self, level: usize, position: usize, hop: &Hop) {
        let down = self.plan.goes_down(hop);
        let (upper_end, lower_end) = if down { (hop.from, hop.to) } else { (hop.to, hop.from) };
        let (first, first_at) = self.end(hop.edge, upper_end, true);
        let (last, last_at) = self.end(hop.edge, lower_end, false);
        let (top, bottom) = (self.layers.items[first].row, self.layers.items[last].row);
        let label = self.model.edges[hop.edge].label.filter(|_| hop.labelled);
        // The row of labels next to the source; below the heading for what starts at the upper border.
        let label_row = match (down, hop.from) {
            (true, End::Top) if level == self.model.edges[hop.edge].from => 2,
            (true, _) => top + 1,
            (false, _) => bottom - 1,
        };
        let weight = self.model.edges[hop.edge].weight;
        let mut chain = Vec::new();
        let mut above = (first, first_at);
        for row in top + 1..=bottom {
            let here = match label {
                _ if row == bottom => (last, last_at),
                Some(size) if row == label_row => (self.add(Kind::Label(position), row, size), At::Middle),
                _ => (self.add(Kind::Bend, row, Size::default()), At::Middle),
            };
            chain.push(self.layers.links.len());
            self.layers.links.push(Link { upper: above.0, lower: here.0, upper_at: above.1, lower_at: here.1, weight });
            above = here;
        }
        self.layers.chains.push(chain);
    }
}
