//! The text of boxes and labels: what stands in which line, and how much room it needs.

use super::super::graph::{Ending, Graph, Line, Row, Way};
use super::super::layout::Size;
use super::super::text;
use super::super::units;

pub(super) const NAME_SIZE: i32 = 13;
pub(super) const ROW_SIZE: i32 = 11;
pub(super) const TITLE_SIZE: i32 = 16;
/// Text wider than this is broken into lines.
const ROW_LIMIT: i32 = 210;
const LABEL_LIMIT: i32 = 190;
const NAME_LIMIT: i32 = 260;
const LABEL_PAD: i32 = 6;
const BOX_PAD: i32 = 10;
/// A sign and the space behind it.
pub(super) const ICON_ROOM: i32 = 16;
const INDENT: i32 = 8;
/// Between pieces of a line: a space.
const RUN_GAP: i32 = 4;

/// A picture in front of a line of text.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Icon {
    Gear,
    Pause,
    Check,
    Cross,
    Ban,
}

/// A piece of a line in one style.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub text: String,
    pub class: &'static str,
}

/// A line of text, `y` being its baseline.
#[derive(Clone, Debug)]
pub(super) struct TextLine {
    pub icon: Option<Icon>,
    pub runs: Vec<Run>,
    pub y: i32,
    pub width: i32,
    pub indent: i32,
}

/// Lines of text with the room they need.
#[derive(Clone, Debug, Default)]
pub(super) struct Card {
    pub lines: Vec<TextLine>,
    pub size: Size,
    /// Lines start at the left; otherwise they are centred.
    pub left: bool,
}

impl Icon {
    pub fn of(ending: Ending) -> Option<Icon> {
        match ending {
            Ending::Ok => Some(Icon::Check),
            Ending::Error => Some(Icon::Cross),
            Ending::Cancelled => Some(Icon::Ban),
            Ending::Plain => None,
        }
    }
}

impl Card {
    fn push(&mut self, icon: Option<Icon>, text: &str, class: &'static str, (size, height): (i32, i32)) {
        let bold = matches!(class, "name" | "title" | "now");
        let width = if bold { text::bold_width(text, size) } else { text::width(text, size) };
        let runs = vec![Run { text: text.to_owned(), class }];
        self.add(TextLine { icon, runs, y: 0, width: width + icon.map_or(0, |_| ICON_ROOM), indent: 0 }, (size, height));
    }

    fn add(&mut self, mut line: TextLine, (size, height): (i32, i32)) {
        // The middle of lower-case letters lies about a third of the size above the baseline.
        line.y = self.size.h + height / 2 + (size * 36 + 50) / 100;
        self.size.h += height;
        self.size.w = self.size.w.max(line.width + line.indent);
        self.lines.push(line);
    }

    fn pad(mut self, x: i32, y: i32) -> Card {
        for line in &mut self.lines {
            line.y += y;
        }
        self.size = Size { w: self.size.w + 2 * x, h: self.size.h + 2 * y };
        self
    }

    /// A state without states inside.
    pub fn of_state(graph: &Graph, node: usize) -> Card {
        let mut card = Card::default();
        let state = &graph.nodes[node];
        let mut icon = state.ending.and_then(Icon::of);
        for line in text::at_most(text::wrap(&state.label, NAME_SIZE, NAME_LIMIT), 3) {
            card.push(icon.take(), &line, "name", (NAME_SIZE, 18));
        }
        card.rows(graph, node);
        let mut card = card.pad(BOX_PAD, 7);
        card.size.w = card.size.w.max(84);
        card
    }

    /// The heading of a state with states inside.
    pub fn of_heading(graph: &Graph, node: usize) -> Card {
        let mut card = Card { left: true, ..Card::default() };
        for line in text::at_most(text::wrap(&graph.nodes[node].label, NAME_SIZE, NAME_LIMIT), 3) {
            card.push(None, &line, "name", (NAME_SIZE, 18));
        }
        card.rows(graph, node);
        card
    }

    /// What stands above the picture, at most `limit` wide if that is not very little.
    pub fn of_title(graph: &Graph, limit: i32) -> Card {
        let limit = limit.max(360);
        let mut card = Card { left: true, ..Card::default() };
        for line in text::at_most(text::wrap(&graph.heading(), TITLE_SIZE * 113 / 100, limit), 3) {
            card.push(None, &line, "title", (TITLE_SIZE, 22));
        }
        for subtitle in graph.subtitles() {
            for line in text::at_most(text::wrap(subtitle, ROW_SIZE, limit), 4) {
                card.push(None, &line, "muted", (ROW_SIZE, 15));
            }
        }
        card.rows(graph, 0);
        card.size.h += 8;
        card
    }

    fn rows(&mut self, graph: &Graph, node: usize) {
        for row in graph.rows(node) {
            let (mut icon, text, class) = match &row {
                Row::Work(handler) => (Some(Icon::Gear), handler.as_str(), "row"),
                Row::Parked => (Some(Icon::Pause), "parked", "row"),
                Row::Text(text) => (None, text.as_str(), "row"),
                Row::Now(text) => (None, text.as_str(), "now"),
                Row::Figure(text) => (None, text.as_str(), "figure"),
            };
            for line in text::at_most(text::wrap(text, ROW_SIZE, ROW_LIMIT), 4) {
                self.push(icon.take(), &line, class, (ROW_SIZE, 15));
            }
        }
    }

    /// The label of an edge: its transitions one below the other.
    pub fn of_label(graph: &Graph, lines: &[Line]) -> Card {
        let mut card = Card { left: true, ..Card::default() };
        for line in lines {
            card.transition(graph, line);
        }
        card.left = card.lines.len() > 1;
        card.pad(LABEL_PAD, 3)
    }

    /// Pieces share a line while they fit; each further line is indented.
    fn transition(&mut self, graph: &Graph, line: &Line) {
        const HEIGHT: (i32, i32) = (ROW_SIZE, 14);
        let empty = |indent| TextLine { icon: None, runs: Vec::new(), y: 0, width: 0, indent };
        let mut current = empty(0);
        for (piece, class) in pieces(graph, line) {
            let measure = |text: &str| if class == "count" { text::bold_width(text, ROW_SIZE) } else { text::width(text, ROW_SIZE) };
            if !current.runs.is_empty() && current.indent + current.width + RUN_GAP + measure(&piece) > LABEL_LIMIT {
                self.add(std::mem::replace(&mut current, empty(INDENT)), HEIGHT);
            }
            let mut parts = text::at_most(text::wrap(&piece, ROW_SIZE, LABEL_LIMIT - INDENT), 4).into_iter().peekable();
            while let Some(text) = parts.next() {
                // A count at the start of a line needs nothing to set it off.
                let starts = current.runs.is_empty();
                let text = if starts { text.trim_start_matches("· ").to_owned() } else { text };
                current.width += measure(&text) + if starts { 0 } else { RUN_GAP };
                current.runs.push(Run { text, class });
                if parts.peek().is_some() {
                    self.add(std::mem::replace(&mut current, empty(INDENT)), HEIGHT);
                }
            }
        }
        self.add(current, HEIGHT);
    }
}

/// The parts of a transition with their classes: nothing inside a part is torn apart without need.
fn pieces(graph: &Graph, line: &Line) -> Vec<(String, &'static str)> {
    let trigger = if line.way == Way::Error { "error-text" } else { "trigger" };
    let mut pieces = vec![(line.trigger.clone(), trigger)];
    pieces.extend(line.detail.as_ref().map(|detail| (format!("({detail})"), trigger)));
    pieces.extend(line.guard.as_ref().map(|guard| (format!("[{guard}]"), "guard")));
    pieces.extend((!line.actions.is_empty()).then(|| (format!("/ {}", line.actions.join(", ")), "guard")));
    pieces.extend(graph.figures.as_ref().map(|_| (format!("· {}", units::count(line.count)), "count")));
    pieces
}
