//! From left to right: the order of the items in each row, with few crossings.
//!
//! Barycentre sweeps (Sugiyama, Tagawa, Toda 1981) and swaps of neighbours (Gansner, Koutsofios, North, Vo 1993), from
//! several starts.

use super::layers::{At, Kind, Layers};

/// Starts besides the order of writing.
const SHUFFLES: u64 = 8;
const SWEEPS: usize = 12;
/// Rounds of swaps after each sweep; more are hardly ever of use.
const ROUNDS: usize = 16;
/// Items from which one start and a third of the sweeps must do.
const HUGE: usize = 3000;

/// An order of all rows.
pub(super) struct Order {
    /// Each crossing counts more if the lines are important.
    pub crossings: u64,
    pub rows: Vec<Vec<usize>>,
}

/// Good orders of the rows of `layers`, all different, the one with the fewest crossings first.
pub(super) fn orders(layers: &Layers) -> Vec<Order> {
    let mut found: Vec<Order> = Vec::new();
    let is_huge = layers.items.len() > HUGE;
    for start in 0..=if is_huge { 0 } else { SHUFFLES } {
        let mut rows = layers.rows.clone();
        if start > 0 {
            shuffle(&mut rows, start);
        }
        let order = Sorter::new(layers, rows).run();
        if found.iter().all(|other| other.rows != order.rows) {
            found.push(order);
        }
    }
    found.sort_by_key(|order| order.crossings);
    found
}

/// Always the same: a drawing must not change from one call to the next. (Knuth's shuffle with the generator of the
/// MMIX computer.)
fn shuffle(rows: &mut [Vec<usize>], seed: u64) {
    let mut state = seed;
    for row in rows {
        for last in (1..row.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let other = usize::try_from(state >> 33).unwrap_or(0) % (last + 1);
            row.swap(last, other);
        }
    }
}

/// A link as one of its items sees it: the item at the other end, and where each end is met.
#[derive(Copy, Clone)]
struct Tie {
    other: usize,
    other_at: i32,
    own_at: i32,
    weight: u64,
}

struct Sorter<'l> {
    layers: &'l Layers,
    rows: Vec<Vec<usize>>,
    /// By item: its place in its row. One more for what is outside.
    places: Vec<usize>,
    /// By item: ties to the row above.
    up: Vec<Vec<Tie>>,
    /// By item: ties to the row below.
    down: Vec<Vec<Tie>>,
}

impl<'l> Sorter<'l> {
    fn new(layers: &'l Layers, rows: Vec<Vec<usize>>) -> Sorter<'l> {
        let mut up = vec![Vec::new(); layers.items.len()];
        let mut down = vec![Vec::new(); layers.items.len()];
        for &link in layers.chains.iter().flatten() {
            let link = &layers.links[link];
            let [upper_at, lower_at] = [link.upper_at, link.lower_at].map(|at| if let At::Fixed(offset) = at { offset } else { 0 });
            let weight = u64::from(link.weight > 1) + 1;
            down[link.upper].push(Tie { other: link.lower, other_at: lower_at, own_at: upper_at, weight });
            up[link.lower].push(Tie { other: link.upper, other_at: upper_at, own_at: lower_at, weight });
        }
        // An edge that goes on outside pulls at the border as if there were one more row.
        for (&item, &other_at) in &layers.outside {
            let is_top = layers.items[item].row == 0;
            let ties = if is_top { &mut up[item] } else { &mut down[item] };
            ties.push(Tie { other: layers.items.len(), other_at, own_at: 0, weight: 1 });
        }
        let mut sorter = Sorter { layers, rows, places: vec![0; layers.items.len() + 1], up, down };
        for row in 0..sorter.rows.len() {
            sorter.heading_first(row);
            sorter.number(row);
        }
        sorter
    }

    fn heading_first(&mut self, row: usize) {
        let items = &self.layers.items;
        self.rows[row].sort_by_key(|item| items[*item].kind != Kind::Heading);
    }

    fn number(&mut self, row: usize) {
        for (place, item) in self.rows[row].iter().enumerate() {
            self.places[*item] = place;
        }
    }

    fn run(&mut self) -> Order {
        let mut best = Order { crossings: self.swap_neighbours(), rows: self.rows.clone() };
        let sweeps = if self.layers.items.len() > HUGE { SWEEPS / 3 } else { SWEEPS };
        for sweep in 0..sweeps {
            let count = self.rows.len();
            for step in 0..count {
                let downwards = sweep % 2 == 0;
                self.sort_row(if downwards { step } else { count - 1 - step }, downwards);
            }
            let crossings = self.swap_neighbours();
            if crossings < best.crossings {
                best = Order { crossings, rows: self.rows.clone() };
            }
        }
        best
    }

    /// Puts each item where its neighbours in the row before are on average; those without any stay where they are.
    fn sort_row(&mut self, row: usize, from_above: bool) {
        let ties = if from_above { &self.up } else { &self.down };
        let mean = |item: usize| {
            let ties = &ties[item];
            let width = |tie: &Tie| i64::from(self.layers.items.get(tie.other).map_or(1, |item| item.size.w.max(1)));
            let sum: i64 = ties.iter().map(|tie| (place(self.places[tie.other]) * 1000) + i64::from(tie.other_at) * 900 / width(tie)).sum();
            (!ties.is_empty()).then(|| sum * 64 / place(ties.len()))
        };
        let mut movable: Vec<(i64, usize)> = self.rows[row].iter().filter_map(|item| Some((mean(*item)?, *item))).collect();
        let is_movable: Vec<bool> = self.rows[row].iter().map(|item| !ties[*item].is_empty()).collect();
        movable.sort_by_key(|(mean, _)| *mean);
        let mut sorted = movable.into_iter();
        for (slot, is_movable) in is_movable.into_iter().enumerate() {
            if is_movable && let Some((_, item)) = sorted.next() {
                self.rows[row][slot] = item;
            }
        }
        self.heading_first(row);
        self.number(row);
    }

    /// Swaps neighbours as long as that helps; the number of crossings then.
    fn swap_neighbours(&mut self) -> u64 {
        for _ in 0..ROUNDS {
            let mut changed = false;
            for row in 0..self.rows.len() {
                for left in 0..self.rows[row].len().saturating_sub(1) {
                    let (a, b) = (self.rows[row][left], self.rows[row][left + 1]);
                    if self.layers.items[a].kind != Kind::Heading && self.between(b, a) < self.between(a, b) {
                        self.rows[row].swap(left, left + 1);
                        self.number(row);
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
        }
        self.crossings()
    }

    /// Crossings of the links of `a` with those of `b` when `a` is directly left of `b`.
    fn between(&self, a: usize, b: usize) -> u64 {
        let crossed = |of_a: &[Tie], of_b: &[Tie]| -> u64 {
            let pairs = of_a.iter().flat_map(|a| of_b.iter().map(move |b| (a, b)));
            pairs.filter(|(a, b)| self.far_end(a) > self.far_end(b)).map(|(a, b)| a.weight * b.weight).sum()
        };
        crossed(&self.up[a], &self.up[b]) + crossed(&self.down[a], &self.down[b])
    }

    fn far_end(&self, tie: &Tie) -> (usize, i32) {
        (self.places[tie.other], tie.other_at)
    }

    fn crossings(&self) -> u64 {
        let above_all = self.rows.first().map_or(0, |row| self.crossings_beside(row, &self.up));
        above_all + self.rows.iter().map(|row| self.crossings_beside(row, &self.down)).sum::<u64>()
    }

    fn crossings_beside(&self, row: &[usize], ties: &[Vec<Tie>]) -> u64 {
        let ends = |item: &usize| {
            let place = self.places[*item];
            ties[*item].iter().map(move |tie| ((place, tie.own_at), (self.places[tie.other], tie.other_at), tie.weight))
        };
        let links: Vec<_> = row.iter().flat_map(ends).collect();
        let mut sum = 0;
        for (position, a) in links.iter().enumerate() {
            for b in &links[position + 1..] {
                if (a.0 < b.0 && a.1 > b.1) || (a.0 > b.0 && a.1 < b.1) {
                    sum += a.2 * b.2;
                }
            }
        }
        sum
    }
}

fn place(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::layers::{Item, Link};
    use super::*;
    use crate::diagram::layout::Size;

    /// Rows of as many items; links by row of the upper end and places in the rows.
    fn layers(rows: &[usize], links: &[(usize, usize, usize)]) -> Layers {
        let mut layers = Layers::default();
        for (row, count) in rows.iter().enumerate() {
            let first = layers.items.len();
            layers.rows.push((first..first + count).collect());
            layers.items.extend(std::iter::repeat_n(Item { kind: Kind::Bend, row, size: Size::default(), port_width: 0 }, *count));
        }
        for (position, &(row, upper, lower)) in links.iter().enumerate() {
            let (upper, lower) = (layers.rows[row][upper], layers.rows[row + 1][lower]);
            layers.links.push(Link { upper, lower, upper_at: At::Middle, lower_at: At::Middle, weight: 1 });
            layers.chains.push(vec![position]);
        }
        layers
    }

    #[test]
    fn lines_are_untangled() {
        let tangled = layers(&[3, 3, 3], &[(0, 0, 2), (0, 1, 1), (0, 2, 0), (1, 0, 1), (1, 1, 2), (1, 2, 0)]);
        assert_eq!(orders(&tangled)[0].crossings, 0);
    }

    #[test]
    fn what_cannot_be_untangled_is_counted() {
        // Each of two items above is linked with each of two below.
        let square = layers(&[2, 2], &[(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)]);
        assert_eq!(orders(&square)[0].crossings, 1);
    }

    #[test]
    fn the_heading_stays_on_the_left() {
        let mut layers = layers(&[1, 3], &[(0, 0, 0), (0, 0, 1)]);
        layers.items[3].kind = Kind::Heading;
        assert!(orders(&layers).iter().all(|order| order.rows[1][0] == 3));
    }
}
