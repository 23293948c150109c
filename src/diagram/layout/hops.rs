//! How an edge goes through the levels: out of the boxes around its source, across, into those around its target.

use super::Model;
use super::rank::{Pull, Ranking};

/// One end of an edge in one level.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A box of the level.
    Child(usize),
    /// The upper border of the box around the level.
    Top,
    /// Its lower border.
    Bottom,
}

/// The part of an edge that lies in one level.
#[derive(Copy, Clone, Debug)]
pub(super) struct Hop {
    pub edge: usize,
    pub from: End,
    pub to: End,
    /// The edge's label is in this level.
    pub labelled: bool,
}

/// Ranks and hops of a whole model.
pub(super) struct Plan {
    /// By node: its rank in its level; 0 beside the heading.
    pub ranks: Vec<usize>,
    /// By node: the hops of the level inside it.
    pub hops: Vec<Vec<Hop>>,
    /// By edge, from source to target: level and position in its hops. Empty for loops.
    pub paths: Vec<Vec<(usize, usize)>>,
    /// By node: edges that end at its upper or lower border, coming from outside.
    pub ends: Vec<Vec<(usize, End)>>,
}

pub(super) fn plan(model: &Model) -> Plan {
    let count = model.nodes.len();
    let mut plan = Plan { ranks: vec![0; count], hops: vec![Vec::new(); count], paths: Vec::new(), ends: vec![Vec::new(); count] };
    // From the outside in: a rank decides by which side an edge leaves the boxes inside.
    for level in 0..count {
        rank_level(model, &mut plan, level);
    }
    for edge in 0..model.edges.len() {
        let mut path = Vec::new();
        for (level, hop) in hops_of(model, &plan.ranks, edge) {
            path.push((level, plan.hops[level].len()));
            plan.hops[level].push(hop);
        }
        plan.note_ends(model, edge, &path);
        plan.paths.push(path);
    }
    plan
}

impl Plan {
    fn note_ends(&mut self, model: &Model, edge: usize, path: &[(usize, usize)]) {
        let (Some(&(first_level, first)), Some(&(last_level, last))) = (path.first(), path.last()) else { return };
        let (from, to) = (model.edges[edge].from, model.edges[edge].to);
        let (start, end) = (self.hops[first_level][first], self.hops[last_level][last]);
        // An edge between a box and something inside it touches the border from within, where it has its place anyway.
        if start.from == End::Child(from) {
            let side = if self.goes_down(&start) { End::Bottom } else { End::Top };
            self.ends[from].push((edge, side));
        }
        if end.to == End::Child(to) {
            let side = if self.goes_down(&end) { End::Top } else { End::Bottom };
            self.ends[to].push((edge, side));
        }
    }

    pub fn goes_down(&self, hop: &Hop) -> bool {
        goes_down(&self.ranks, hop.from, hop.to)
    }
}

fn goes_down(ranks: &[usize], from: End, to: End) -> bool {
    match (from, to) {
        (End::Child(from), End::Child(to)) => ranks[from] < ranks[to],
        (End::Top, _) | (_, End::Bottom) => true,
        (End::Bottom, _) | (_, End::Top) => false,
    }
}

/// The hops of an edge, each with its level, from source to target.
fn hops_of(model: &Model, ranks: &[usize], edge: usize) -> Vec<(usize, Hop)> {
    let (from, to) = (model.edges[edge].from, model.edges[edge].to);
    if from == to {
        return Vec::new();
    }
    let meeting = meeting_level(model, from, to);
    let across_from = model.child_towards(meeting, from).map_or(End::Top, End::Child);
    let across_to = model.child_towards(meeting, to).map_or(End::Top, End::Child);
    let down = goes_down(ranks, across_from, across_to);
    let (out_by, in_by) = if down { (End::Bottom, End::Top) } else { (End::Top, End::Bottom) };
    let hop = |from, to| Hop { edge, from, to, labelled: false };
    let mut hops = Vec::new();
    for level in levels_between(model, meeting, from) {
        let child = model.child_towards(level, from).map_or(End::Top, End::Child);
        hops.push((level, hop(child, out_by)));
    }
    hops.push((meeting, hop(across_from, across_to)));
    for level in levels_between(model, meeting, to).into_iter().rev() {
        let child = model.child_towards(level, to).map_or(End::Top, End::Child);
        hops.push((level, hop(in_by, child)));
    }
    // Near the source: one reads from a state what may happen in it.
    hops[0].1.labelled = model.edges[edge].label.is_some();
    hops
}

/// The innermost box that has both ends inside; one of the ends itself when it has the other inside.
fn meeting_level(model: &Model, from: usize, to: usize) -> usize {
    let around = |level: usize, node: usize| level == node || model.child_towards(level, node).is_some();
    model
        .chain(from)
        .find(|level| around(*level, to) && model.child_towards(*level, from).or(model.child_towards(*level, to)).is_some())
        .unwrap_or(0)
}

/// The boxes around `node` that are inside `meeting`, the innermost first.
fn levels_between(model: &Model, meeting: usize, node: usize) -> Vec<usize> {
    if node == meeting {
        return Vec::new();
    }
    model.chain(node).skip(1).take_while(|level| *level != meeting).collect()
}

fn rank_level(model: &Model, plan: &mut Plan, level: usize) {
    let children: Vec<usize> = model.children(level).into_iter().filter(|child| !model.nodes[*child].beside_heading).collect();
    if children.is_empty() {
        return;
    }
    let position = |node: usize| children.iter().position(|child| *child == node);
    let mut ranking = Ranking { count: children.len(), ..Ranking::default() };
    for (edge, ends) in model.edges.iter().enumerate() {
        // The ranks of this level are not there yet, but which side an edge takes is decided further out.
        let Some((_, hop)) = hops_of(model, &plan.ranks, edge).into_iter().find(|(at, _)| *at == level) else { continue };
        match (hop.from, hop.to) {
            (End::Child(from), End::Child(to)) => match (position(from), position(to)) {
                (Some(from), Some(to)) => ranking.pulls.push(Pull { from, to, weight: ends.weight }),
                (None, Some(to)) => {
                    ranking.start = to;
                    ranking.from_top.push((to, ends.weight));
                }
                _ => {}
            },
            (End::Child(child), End::Top) | (End::Top, End::Child(child)) => {
                ranking.from_top.extend(position(child).map(|child| (child, ends.weight)));
            }
            (End::Child(child), End::Bottom) | (End::Bottom, End::Child(child)) => {
                ranking.to_bottom.extend(position(child).map(|child| (child, ends.weight)));
            }
            _ => {}
        }
    }
    for (child, rank) in children.iter().zip(ranking.ranks()) {
        plan.ranks[*child] = rank;
    }
}
