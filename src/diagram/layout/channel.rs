//! The space between two rows: every line that moves sideways there gets a track of its own.

/// Lines closer than this look like one.
const APART: i32 = 7;
/// What one pair of lines on top of each other costs, in crossings.
const OVERLAP: i64 = 1000;

/// A line from one row to the next: where it comes in above and where it goes out below.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub top: i32,
    pub bottom: i32,
}

/// How a line goes through: tracks (from the top) and where it goes down after each.
pub(super) type Course = Vec<(usize, i32)>;

/// A sideways piece of a line.
#[derive(Copy, Clone, Debug)]
struct Piece {
    line: usize,
    from: i32,
    to: i32,
}

impl Piece {
    fn spans(&self) -> (i32, i32) {
        (self.from.min(self.to), self.from.max(self.to))
    }

    fn covers(&self, x: i32) -> bool {
        let (low, high) = self.spans();
        low < x && x < high
    }

    fn meets(&self, other: &Piece) -> bool {
        let ((low, high), (other_low, other_high)) = (self.spans(), other.spans());
        low - APART < other_high && other_low < high + APART
    }

    /// What it costs to have this piece above `lower`: its way down and the other's way up may cross or run together.
    fn above(&self, lower: &Piece) -> i64 {
        let crossings = i64::from(lower.covers(self.to)) + i64::from(self.covers(lower.from));
        let same = self.line == lower.line;
        let overlap = !same && (self.to - lower.from).abs() < APART;
        crossings + if overlap { OVERLAP } else { 0 }
    }
}

/// The courses of all lines of a channel, and the number of tracks.
pub(super) fn route(lines: &[Line]) -> (Vec<Course>, usize) {
    let moves = |(line, at): (usize, &Line)| (at.top != at.bottom).then_some(Piece { line, from: at.top, to: at.bottom });
    let mut pieces: Vec<Piece> = lines.iter().enumerate().filter_map(moves).collect();
    pieces.sort_by_key(|piece| (piece.from, piece.to));
    settle(&mut pieces);
    // Two lines that change places cannot both be first; one of them then goes in two steps.
    for _ in 0..lines.len() {
        let Some(stuck) = find_overlap(&pieces) else { break };
        let Piece { line, from, to } = pieces[stuck];
        let Some(middle) = free_column(lines, &pieces, from, to) else { break };
        pieces[stuck] = Piece { line, from, to: middle };
        pieces.push(Piece { line, from: middle, to });
        settle(&mut pieces);
    }
    assign(lines.len(), &pieces)
}

fn cost(upper: &Piece, lower: &Piece) -> i64 {
    // The two steps of one line: the second cannot come first.
    if upper.line == lower.line && upper.from == lower.to {
        return 100 * OVERLAP;
    }
    if upper.meets(lower) { upper.above(lower) } else { 0 }
}

/// Moves single pieces up and down as long as that saves crossings.
fn settle(pieces: &mut [Piece]) {
    for _ in 0..=pieces.len() {
        let mut improved = false;
        for from in 0..pieces.len() {
            if let Some(to) = better_place(pieces, from) {
                if to < from {
                    pieces[to..=from].rotate_right(1)
                } else {
                    pieces[from..=to].rotate_left(1)
                }
                improved = true;
            }
        }
        if !improved {
            break;
        }
    }
}

/// Where a piece saves most: passing another one costs or saves only what these two have with each other.
fn better_place(pieces: &[Piece], from: usize) -> Option<usize> {
    let piece = &pieces[from];
    let mut best = (0, None);
    let mut cost_so_far = 0;
    for to in (0..from).rev() {
        cost_so_far += cost(piece, &pieces[to]) - cost(&pieces[to], piece);
        if cost_so_far < best.0 {
            best = (cost_so_far, Some(to));
        }
    }
    cost_so_far = 0;
    for (to, other) in pieces.iter().enumerate().skip(from + 1) {
        cost_so_far += cost(other, piece) - cost(piece, other);
        if cost_so_far < best.0 {
            best = (cost_so_far, Some(to));
        }
    }
    best.1
}

fn find_overlap(pieces: &[Piece]) -> Option<usize> {
    let bad = |upper: usize| pieces[upper + 1..].iter().any(|lower| cost(&pieces[upper], lower) >= OVERLAP);
    (0..pieces.len()).find(|upper| bad(*upper))
}

/// A column between `from` and `to`, or beside them, that no line of the channel uses.
fn free_column(lines: &[Line], pieces: &[Piece], from: i32, to: i32) -> Option<i32> {
    let used: Vec<i32> =
        lines.iter().flat_map(|line| [line.top, line.bottom]).chain(pieces.iter().flat_map(|piece| [piece.from, piece.to])).collect();
    let middle = i32::midpoint(from, to);
    let candidates = (0..2000).flat_map(|step| [middle + step, middle - step]);
    candidates.into_iter().find(|x| used.iter().all(|used| (used - x).abs() >= APART))
}

/// Each piece goes on the first track below all that it must stay below.
fn assign(lines: usize, pieces: &[Piece]) -> (Vec<Course>, usize) {
    let mut courses: Vec<Course> = vec![Vec::new(); lines];
    let mut tracks: Vec<usize> = Vec::with_capacity(pieces.len());
    for (position, piece) in pieces.iter().enumerate() {
        let above = pieces[..position].iter().zip(&tracks).filter(|(other, _)| other.meets(piece));
        let track = above.map(|(_, track)| track + 1).max().unwrap_or(0);
        tracks.push(track);
        courses[piece.line].push((track, piece.to));
    }
    for course in &mut courses {
        course.sort_unstable();
    }
    (courses, tracks.into_iter().max().map_or(0, |last| last + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(lines: &[(i32, i32)]) -> (Vec<Course>, usize) {
        route(&lines.iter().map(|&(top, bottom)| Line { top, bottom }).collect::<Vec<_>>())
    }

    #[test]
    fn straight_lines_need_no_track() {
        assert_eq!(routed(&[(10, 10), (50, 50)]), (vec![vec![], vec![]], 0));
    }

    #[test]
    fn lines_side_by_side_share_a_track() {
        assert_eq!(routed(&[(0, 30), (60, 90)]).1, 1);
    }

    #[test]
    fn nested_lines_do_not_cross() {
        // Both go right; the one that starts further right must be above, or they would cross twice.
        let (courses, tracks) = routed(&[(0, 80), (40, 120)]);
        assert_eq!((&courses[0][..], &courses[1][..], tracks), (&[(1, 80)][..], &[(0, 120)][..], 2));
    }

    #[test]
    fn lines_that_change_places_do_not_run_together() {
        let (courses, _) = routed(&[(0, 100), (100, 0)]);
        let steps: usize = courses.iter().map(Vec::len).sum();
        assert_eq!(steps, 3, "one of them goes in two steps: {courses:?}");
    }
}
