//! Integers that obey minimum distances and lie as close together as they can.
//!
//! The network simplex method as in Gansner, Koutsofios, North, Vo: "A Technique for Drawing Directed Graphs" (1993).
//! It serves ranks and x coordinates alike.

#[cfg(test)]
mod tests;

/// `at[head] - at[tail]` must be at least `min` and costs `weight` per unit.
#[derive(Copy, Clone, Debug)]
struct Arc {
    tail: usize,
    head: usize,
    min: i32,
    weight: i64,
}

/// Variables and the distances between them. Every variable must hang together with the first by arcs.
#[derive(Debug, Default)]
pub(super) struct Problem {
    count: usize,
    arcs: Vec<Arc>,
}

impl Problem {
    pub fn variable(&mut self) -> usize {
        self.count += 1;
        self.count - 1
    }

    /// `head` lies at least `min` behind `tail`; each unit of the whole distance costs `weight`.
    pub fn apart(&mut self, tail: usize, head: usize, min: i32, weight: i64) {
        self.arcs.push(Arc { tail, head, min, weight });
    }

    /// Each unit between `a + a_offset` and `b + b_offset` costs `weight`, whichever comes first.
    pub fn near(&mut self, (a, a_offset): (usize, i32), (b, b_offset): (usize, i32), weight: i64) {
        // A helper in front of both: its two distances sum up to the one between them.
        let helper = self.variable();
        let low = a_offset.min(b_offset);
        self.apart(helper, a, low - a_offset, weight);
        self.apart(helper, b, low - b_offset, weight);
    }

    /// What a solution costs.
    pub fn cost(&self, at: &[i32]) -> i64 {
        self.arcs.iter().map(|arc| i64::from(at[arc.head] - at[arc.tail]) * arc.weight).sum()
    }

    /// The cheapest solution; the first variable is 0.
    pub fn solve(&self) -> Vec<i32> {
        let mut simplex = Simplex::new(self);
        simplex.improve();
        let origin = simplex.at[0];
        simplex.at.iter().map(|at| at - origin).collect()
    }
}

/// Steps after which the search ends with what it has: a bound for huge problems, and for going round in a circle, which
/// degenerate steps might do. Any stop is a valid drawing, only a little wider. About a second.
const EFFORT: usize = 50_000_000;

struct Simplex<'p> {
    arcs: &'p [Arc],
    at: Vec<i32>,
    in_tree: Vec<bool>,
    /// Arcs at each variable.
    touching: Vec<Vec<usize>>,
    /// The arc towards the root, which is the first variable.
    up: Vec<Option<usize>>,
    /// Weights that leave minus weights that enter, of a variable and all behind it in the tree.
    surplus: Vec<i64>,
    /// Marks for one exchange.
    is_behind: Vec<bool>,
    search_from: usize,
    /// Steps of all loops so far.
    effort: usize,
}

impl<'p> Simplex<'p> {
    fn new(problem: &'p Problem) -> Simplex<'p> {
        let mut touching = vec![Vec::new(); problem.count];
        for (index, arc) in problem.arcs.iter().enumerate() {
            touching[arc.tail].push(index);
            touching[arc.head].push(index);
        }
        let mut simplex = Simplex {
            arcs: &problem.arcs,
            at: feasible(problem, &touching),
            in_tree: vec![false; problem.arcs.len()],
            touching,
            up: vec![None; problem.count],
            surplus: vec![0; problem.count],
            is_behind: vec![false; problem.count],
            search_from: 0,
            effort: 0,
        };
        simplex.grow_tree();
        simplex.sum_up();
        simplex
    }

    fn slack(&self, arc: usize) -> i32 {
        let Arc { tail, head, min, .. } = self.arcs[arc];
        self.at[head] - self.at[tail] - min
    }

    fn other_end(&self, arc: usize, end: usize) -> usize {
        if self.arcs[arc].tail == end { self.arcs[arc].head } else { self.arcs[arc].tail }
    }

    /// A spanning tree of arcs without slack, by moving what is in the tree towards what is not.
    fn grow_tree(&mut self) {
        let mut reached = vec![false; self.at.len()];
        let mut members = vec![0];
        let mut next = 0;
        reached[0] = true;
        loop {
            while next < members.len() {
                let member = members[next];
                next += 1;
                for &arc in &self.touching[member] {
                    let other = self.other_end(arc, member);
                    if !reached[other] && self.slack(arc) == 0 {
                        reached[other] = true;
                        self.in_tree[arc] = true;
                        members.push(other);
                    }
                }
            }
            let leaving = |arc: &usize| reached[self.arcs[*arc].tail] != reached[self.arcs[*arc].head];
            let Some(arc) = (0..self.arcs.len()).filter(leaving).min_by_key(|arc| self.slack(*arc)) else { return };
            let step = if reached[self.arcs[arc].tail] { self.slack(arc) } else { -self.slack(arc) };
            for &member in &members {
                self.at[member] += step;
            }
            next = 0;
        }
    }

    /// Walks the tree from its root and sums up what lies behind each variable.
    fn sum_up(&mut self) {
        let order = self.behind(0);
        for arc in self.arcs {
            self.surplus[arc.tail] += arc.weight;
            self.surplus[arc.head] -= arc.weight;
        }
        for &here in order.iter().rev() {
            if let Some(arc) = self.up[here] {
                let parent = self.other_end(arc, here);
                self.surplus[parent] += self.surplus[here];
            }
        }
    }

    /// `start` and all that lies behind it, seen from the root; notes the way back for each.
    fn behind(&mut self, start: usize) -> Vec<usize> {
        let mut found = vec![start];
        let mut next = 0;
        while next < found.len() {
            let here = found[next];
            next += 1;
            for &arc in &self.touching[here] {
                if self.in_tree[arc] && self.up[here] != Some(arc) {
                    let other = self.other_end(arc, here);
                    self.up[other] = Some(arc);
                    found.push(other);
                }
            }
        }
        self.effort += found.len();
        found
    }

    /// What pulling the two sides of the tree arc above `below` apart costs per unit; below 0 it pays.
    fn cut(&self, below: usize, arc: usize) -> i64 {
        // Weights inside a part cancel out, so the sum over its variables is the sum over the arcs that cross.
        if self.arcs[arc].tail == below { self.surplus[below] } else { -self.surplus[below] }
    }

    fn improve(&mut self) {
        while self.effort < EFFORT {
            let Some((below, leaving)) = self.find_leaving() else { return };
            self.exchange(below, leaving);
        }
    }

    /// Starts where the last search ended: always starting at the same place is slow and prone to circles.
    fn find_leaving(&mut self) -> Option<(usize, usize)> {
        const ENOUGH: usize = 30;
        let count = self.at.len();
        let mut best: Option<(i64, usize, usize)> = None;
        let mut seen = 0;
        for step in 0..count {
            self.effort += 1;
            let below = (self.search_from + step) % count;
            let Some(arc) = self.up[below] else { continue };
            let cut = self.cut(below, arc);
            if cut >= 0 {
                continue;
            }
            if best.is_none_or(|(least, _, _)| cut < least) {
                best = Some((cut, below, arc));
            }
            seen += 1;
            if seen == ENOUGH {
                self.search_from = (below + 1) % count;
                break;
            }
        }
        best.map(|(_, below, arc)| (below, arc))
    }

    /// Lets the arc above `below` go and takes the arc without slack that holds the parts together next.
    fn exchange(&mut self, below: usize, leaving: usize) {
        let part = self.behind(below);
        for &member in &part {
            self.is_behind[member] = true;
        }
        // The part moves away from the rest until an arc in the other direction is tight.
        let moves_up = self.arcs[leaving].head == below;
        let returns = |arc: &usize| {
            let Arc { tail, head, .. } = self.arcs[*arc];
            if moves_up { self.is_behind[tail] && !self.is_behind[head] } else { self.is_behind[head] && !self.is_behind[tail] }
        };
        let candidates = part.iter().flat_map(|member| &self.touching[*member]).copied().filter(returns);
        let entering = candidates.min_by_key(|arc| (self.slack(*arc), *arc));
        if let Some(entering) = entering {
            let step = if moves_up { self.slack(entering) } else { -self.slack(entering) };
            for &member in &part {
                self.at[member] += step;
            }
            self.hang(below, leaving, entering);
        }
        for &member in &part {
            self.is_behind[member] = false;
        }
        if entering.is_none() {
            // Only without any cost in the other direction; then there is nothing to gain either.
            self.effort = EFFORT;
        }
    }

    /// Hangs the part of the tree below the arc `leaving` on the arc `entering`.
    fn hang(&mut self, below: usize, leaving: usize, entering: usize) {
        let whole = self.surplus[below];
        let rest = self.other_end(leaving, below);
        self.carry(rest, -whole);
        let Arc { tail, head, .. } = self.arcs[entering];
        let (inner, outer) = if self.is_behind[tail] { (tail, head) } else { (head, tail) };
        // The way from the new root of the part to its old one is turned round.
        let (mut here, mut above, mut behind) = (inner, entering, 0);
        loop {
            let old_above = self.up[here].replace(above);
            let old_surplus = std::mem::replace(&mut self.surplus[here], whole - behind);
            let Some(arc) = old_above.filter(|_| here != below) else { break };
            (behind, above) = (old_surplus, arc);
            here = self.other_end(arc, here);
        }
        self.in_tree[leaving] = false;
        self.in_tree[entering] = true;
        self.carry(outer, whole);
    }

    /// Adds to the sums of `start` and all between it and the root.
    fn carry(&mut self, start: usize, surplus: i64) {
        let mut here = start;
        self.surplus[here] += surplus;
        while let Some(arc) = self.up[here] {
            here = self.other_end(arc, here);
            self.surplus[here] += surplus;
            self.effort += 1;
        }
    }
}

/// Some solution: every variable as low as the arcs into it let it be, none below 0.
fn feasible(problem: &Problem, touching: &[Vec<usize>]) -> Vec<i32> {
    let mut at = vec![0; problem.count];
    let mut waiting: std::collections::VecDeque<usize> = (0..problem.count).collect();
    let mut is_waiting = vec![true; problem.count];
    // Distances that contradict each other would go round for ever; the callers make none.
    let mut budget = problem.count * (problem.arcs.len() + 1) + 1;
    while let Some(here) = waiting.pop_front() {
        is_waiting[here] = false;
        budget -= 1;
        debug_assert!(budget > 0, "distances contradict each other");
        if budget == 0 {
            break;
        }
        for &arc in &touching[here] {
            let Arc { tail, head, min, .. } = problem.arcs[arc];
            if tail == here && at[head] < at[here] + min {
                at[head] = at[here] + min;
                if !std::mem::replace(&mut is_waiting[head], true) {
                    waiting.push_back(head);
                }
            }
        }
    }
    at
}
