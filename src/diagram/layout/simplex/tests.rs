//! Against every labelling of small random problems, by brute force.

use super::super::geometry::Dice;
use super::*;

#[test]
fn a_chain_is_as_short_as_it_may_be() {
    let mut problem = Problem::default();
    let [a, b, c] = std::array::from_fn(|_| problem.variable());
    problem.apart(a, b, 2, 1);
    problem.apart(b, c, 3, 1);
    problem.apart(a, c, 9, 5);
    assert_eq!(problem.solve()[c], 9);
}

#[test]
fn heavy_arcs_win() {
    // The paper's example: `x` can sit beside either end of a long edge and goes to the heavier side.
    for (low, high, expected) in [(1, 9, 9), (9, 1, 1)] {
        let mut problem = Problem::default();
        let [a, x, b] = std::array::from_fn(|_| problem.variable());
        problem.apart(a, b, 10, 0);
        problem.apart(a, x, 1, low);
        problem.apart(x, b, 1, high);
        let at = problem.solve();
        assert_eq!((at[x], at[b]), (expected, 10));
    }
}

#[test]
fn nearness_is_two_sided_and_minds_offsets() {
    let mut problem = Problem::default();
    let [a, b, c] = std::array::from_fn(|_| problem.variable());
    problem.apart(a, b, 100, 0);
    problem.apart(a, c, 0, 0);
    problem.near((b, 10), (c, 30), 1);
    problem.near((a, 0), (b, 0), 1);
    let at = problem.solve();
    assert_eq!((at[b], at[c]), (100, 80));
}

#[test]
fn a_solution_is_never_worse_than_any_other() {
    // Small enough for trying out all values.
    let weights = [[3, 1, 4], [1, 5, 9], [2, 6, 5], [3, 5, 8]];
    for [w0, w1, w2] in weights {
        let mut problem = Problem::default();
        let v: [usize; 4] = std::array::from_fn(|_| problem.variable());
        problem.apart(v[0], v[1], 1, w0);
        problem.apart(v[0], v[2], 4, 0);
        problem.apart(v[1], v[3], 1, w1);
        problem.apart(v[3], v[2], -2, w2);
        problem.apart(v[0], v[3], 0, 0);
        let cost = |x1: i32, x2: i32, x3: i32| i64::from(x1) * w0 + i64::from(x3 - x1) * w1 + i64::from(x2 - x3) * w2;
        let mut least = i64::MAX;
        for x1 in 1..9 {
            for x2 in 4..12 {
                for x3 in (x1 + 1)..=(x2 + 2) {
                    least = least.min(cost(x1, x2, x3));
                }
            }
        }
        let at = problem.solve();
        assert_eq!(cost(at[1], at[2], at[3]), least);
    }
}

#[test]
fn no_exchange_pays_any_more_at_the_end() {
    let mut dice = Dice(1);
    for _ in 0..200 {
        let mut problem = Problem::default();
        let count = 3 + dice.below(30);
        for variable in 0..count {
            problem.variable();
            problem.apart(0, variable, 0, 1);
        }
        for _ in 0..count * 2 {
            let (a, b) = (dice.below(count), dice.below(count));
            let (distance, weight) = (i32::try_from(dice.below(20)).unwrap(), i64::try_from(dice.below(9)).unwrap());
            match a.cmp(&b) {
                std::cmp::Ordering::Less => problem.apart(a, b, distance, weight),
                _ => problem.near((a, distance), (b, 0), weight),
            }
        }
        let mut simplex = Simplex::new(&problem);
        simplex.improve();
        assert!((0..problem.arcs.len()).all(|arc| simplex.slack(arc) >= 0), "a distance is too short");
        let kept = simplex.surplus.clone();
        (simplex.surplus, simplex.up) = (vec![0; problem.count], vec![None; problem.count]);
        simplex.sum_up();
        assert_eq!(simplex.surplus, kept, "the sums that are kept up to date are those of the tree");
        assert!((0..problem.count).all(|below| simplex.up[below].is_none_or(|arc| simplex.cut(below, arc) >= 0)), "not the cheapest");
    }
}
