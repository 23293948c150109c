//! What the signs mean; only those that occur.

use std::fmt::Write;

use super::super::graph::{Ending, Graph, Way};
use super::super::layout::{Point, Rect, Size};
use super::super::text::{self, escape};
use super::super::units;
use super::card::{Icon, ROW_SIZE};

const ROW_HEIGHT: i32 = 20;
const SAMPLE: i32 = 26;
const GAP: i32 = 22;

enum Sample {
    Dot,
    Sign(Icon),
    Box(&'static str, Option<Icon>),
    Line(&'static str),
    Origin,
    Nothing,
}

struct Entry {
    sample: Sample,
    words: String,
    at: Point,
}

/// A few rows below the picture.
pub(super) struct Legend {
    entries: Vec<Entry>,
    pub size: Size,
}

impl Legend {
    pub fn of(graph: &Graph, width: i32) -> Legend {
        let mut legend = Legend { entries: Vec::new(), size: Size { w: 0, h: 8 + ROW_HEIGHT } };
        let mut at = Point { x: 4, y: 8 };
        for (sample, words) in entries(graph) {
            let room = if matches!(sample, Sample::Nothing) { 0 } else { SAMPLE + 6 };
            let needed = room + text::width(&words, ROW_SIZE);
            if at.x > 4 && at.x + needed > width {
                at = Point { x: 4, y: at.y + ROW_HEIGHT };
                legend.size.h += ROW_HEIGHT;
            }
            legend.entries.push(Entry { sample, words, at });
            legend.size.w = legend.size.w.max(at.x + needed);
            at.x += needed + GAP;
        }
        legend
    }

    pub fn draw(&self, svg: &mut String, top: i32) {
        for Entry { sample, words, at } in &self.entries {
            let middle = top + at.y + ROW_HEIGHT / 2;
            let mut x = at.x;
            match sample {
                Sample::Nothing => {}
                Sample::Dot => {
                    let _ = write!(svg, "<circle class=\"dot\" cx=\"{}\" cy=\"{middle}\" r=\"6\"/>", x + SAMPLE / 2);
                }
                Sample::Sign(icon) => super::sign(svg, *icon, Point { x: x + SAMPLE / 2 - 5, y: middle - 5 }),
                Sample::Box(class, icon) => {
                    super::rect(svg, class, Rect { x, y: middle - 7, w: SAMPLE, h: 14 }, 4);
                    if let Some(icon) = icon {
                        super::rect(svg, class, Rect { x: x + 2, y: middle - 5, w: SAMPLE - 4, h: 10 }, 3);
                        super::sign(svg, *icon, Point { x: x + SAMPLE / 2 - 5, y: middle - 5 });
                    }
                }
                Sample::Origin => {
                    let _ = write!(svg, "<path class=\"line\" d=\"M{x} {middle}h{SAMPLE}\"/>");
                    let _ = write!(svg, "<circle class=\"origin\" cx=\"{}\" cy=\"{middle}\" r=\"3.5\"/>", x + 4);
                }
                Sample::Line(class) => {
                    let _ = write!(svg, "<path class=\"line{class}\" d=\"M{x} {middle}h{SAMPLE}\"/>");
                }
            }
            if !matches!(sample, Sample::Nothing) {
                x += SAMPLE + 6;
            }
            let _ = writeln!(svg, "<text class=\"muted\" x=\"{x}\" y=\"{}\">{}</text>", middle + 4, escape(words));
        }
    }
}

fn entries(graph: &Graph) -> Vec<(Sample, String)> {
    let mut entries = Vec::new();
    let mut add = |is_there: bool, sample: Sample, words: &str| {
        if is_there {
            entries.push((sample, words.to_owned()));
        }
    };
    let nodes = &graph.nodes;
    let ends = |ending: Ending| nodes.iter().any(|node| node.ending == Some(ending));
    let goes = |way: Way| graph.edges.iter().any(|edge| edge.way() == way && !graph.is_idle(edge));
    add(true, Sample::Dot, "start");
    add(nodes.iter().any(|node| !node.work.is_empty()), Sample::Sign(Icon::Gear), "handler at work");
    add(nodes.iter().any(|node| node.parked), Sample::Box("state parked", None), "parked: waits for an event");
    add(ends(Ending::Ok), Sample::Box("state ok", Icon::of(Ending::Ok)), "ends well");
    add(ends(Ending::Error), Sample::Box("state failed", Icon::of(Ending::Error)), "ends in error");
    add(ends(Ending::Cancelled), Sample::Box("state cancelled", Icon::of(Ending::Cancelled)), "cancelled");
    add(goes(Way::Onward), Sample::Line(" onward"), "work done");
    add(goes(Way::Error), Sample::Line(" error"), "error");
    add(goes(Way::Other), Sample::Line(""), "event or timer");
    let inherited = graph.edges.iter().any(|edge| nodes[edge.from].is_compound());
    add(inherited, Sample::Origin, "from any state in the frame");
    if let Some(figures) = &graph.figures {
        add(graph.edges.iter().any(|edge| graph.is_idle(edge)), Sample::Line(" idle"), "never taken");
        add(true, Sample::Nothing, "the wider, the more often (log scale)");
        let unexplained = format!("{} moves that are no transition of this definition", units::count(figures.unexplained));
        add(figures.unexplained > 0, Sample::Nothing, &unexplained);
    }
    entries
}
