//! Which of the boxes of a level stand above which.

use super::simplex::Problem;

/// An edge between two of the boxes, by their positions in the level.
#[derive(Copy, Clone, Debug)]
pub(super) struct Pull {
    pub from: usize,
    pub to: usize,
    pub weight: i64,
}

/// The boxes of a level and what pulls them about.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    pub count: usize,
    pub pulls: Vec<Pull>,
    /// Boxes that an edge enters from the upper border, with its weight.
    pub from_top: Vec<(usize, i64)>,
    /// Boxes from or to which an edge crosses the lower border, with its weight.
    pub to_bottom: Vec<(usize, i64)>,
    /// Where one comes in.
    pub start: usize,
}

impl Ranking {
    /// Ranks from 1. Every pull goes downwards or upwards, none stays in a rank.
    pub fn ranks(&self) -> Vec<usize> {
        let order = self.flow();
        let mut problem = Problem::default();
        let top = problem.variable();
        let boxes: Vec<usize> = (0..self.count).map(|_| problem.variable()).collect();
        let bottom = problem.variable();
        for &variable in &boxes {
            problem.apart(top, variable, 1, 0);
            problem.apart(variable, bottom, 1, 0);
        }
        // Keeps the number of ranks low where nothing else speaks for it.
        problem.apart(top, bottom, 1, 1);
        for pull in &self.pulls {
            let (upper, lower) = if order[pull.from] < order[pull.to] { (pull.from, pull.to) } else { (pull.to, pull.from) };
            problem.apart(boxes[upper], boxes[lower], 1, pull.weight);
        }
        for &(target, weight) in &self.from_top {
            problem.apart(top, boxes[target], 1, weight);
        }
        for &(source, weight) in &self.to_bottom {
            problem.apart(boxes[source], bottom, 1, weight);
        }
        let at = problem.solve();
        boxes.iter().map(|variable| usize::try_from(at[*variable]).unwrap_or(1)).collect()
    }

    /// The place of each box in the general direction: what goes against it is drawn upwards.
    ///
    /// Authors mostly write states down in the order in which they are gone through. Where a walk from the start
    /// (depth first, as for finding back edges) has fewer edges going back, that is taken instead.
    fn flow(&self) -> Vec<usize> {
        let written: Vec<usize> = (0..self.count).collect();
        let walked = self.walk();
        if self.against(&walked) < self.against(&written) { walked } else { written }
    }

    fn against(&self, order: &[usize]) -> i64 {
        self.pulls.iter().filter(|pull| order[pull.from] > order[pull.to]).map(|pull| pull.weight).sum()
    }

    fn walk(&self) -> Vec<usize> {
        let mut next: Vec<Vec<usize>> = vec![Vec::new(); self.count];
        for pull in &self.pulls {
            next[pull.from].push(pull.to);
        }
        let mut seen = vec![false; self.count];
        let mut finished = Vec::with_capacity(self.count);
        for start in std::iter::once(self.start).chain(0..self.count) {
            if start >= self.count || std::mem::replace(&mut seen[start], true) {
                continue;
            }
            let mut stack = vec![(start, 0)];
            while let Some((here, done)) = stack.last_mut() {
                let here = *here;
                let Some(&to) = next[here].get(*done) else {
                    finished.push(here);
                    stack.pop();
                    continue;
                };
                *done += 1;
                if !std::mem::replace(&mut seen[to], true) {
                    stack.push((to, 0));
                }
            }
        }
        let mut order = vec![0; self.count];
        for (position, &here) in finished.iter().rev().enumerate() {
            order[here] = position;
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(count: usize, pulls: &[(usize, usize)]) -> Vec<usize> {
        let pulls = pulls.iter().map(|&(from, to)| Pull { from, to, weight: 1 }).collect();
        Ranking { count, pulls, ..Ranking::default() }.ranks()
    }

    #[test]
    fn retries_go_back() {
        // received, validated, sunk, retried: the last goes back to the first two.
        assert_eq!(ranks(4, &[(0, 1), (1, 2), (0, 3), (1, 3), (3, 0), (3, 1)]), [1, 2, 3, 3]);
    }

    #[test]
    fn the_order_of_writing_yields_to_a_better_one() {
        // Written backwards.
        let ranking = Ranking { start: 2, ..Ranking { count: 3, pulls: vec![], ..Ranking::default() } };
        let pulls = vec![Pull { from: 2, to: 1, weight: 1 }, Pull { from: 1, to: 0, weight: 1 }];
        assert_eq!(Ranking { pulls, ..ranking }.ranks(), [3, 2, 1]);
    }

    #[test]
    fn unconnected_boxes_stand_in_the_first_rank() {
        assert_eq!(ranks(3, &[]), [1, 1, 1]);
    }
}
