//! What all three formats draw: states in states, and one edge per pair of states.

use std::collections::BTreeMap;

use super::overlay::StateOverlay;
use super::units;

/// A machine as a picture sees it: no events, guards or delays any more, only text.
///
/// Made from a [`Machine`](crate::fsm::Machine) by [`Graph::of`]; the figures of a run are put on it by
/// [`Graph::overlay`].
#[derive(Clone, Debug)]
pub struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
    pub(super) version: Option<String>,
    /// By leaf before, leaf after and the event's own name: the line that stands for it.
    pub(super) moves: BTreeMap<(String, String, String), Place>,
    /// What an overlay says about the whole; `None` when there is none.
    pub(super) figures: Option<Figures>,
}

/// What an overlay says that belongs to no state and no edge.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pub title: Option<String>,
    /// Moves that the definition does not explain, such as a recovery's.
    pub unexplained: u64,
}

/// A state. Number 0 is the root; parents come before their children.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Keys below the root joined by dots.
    pub name: String,
    /// The last key; for the root the machine's id.
    pub label: String,
    pub parent: Option<usize>,
    pub children: Vec<usize>,
    pub initial: Option<usize>,
    pub ending: Option<Ending>,
    /// Only an event from outside leaves it.
    pub parked: bool,
    pub description: Option<String>,
    /// Handlers that run while it is active.
    pub work: Vec<String>,
    /// Actions on entry and exit, if asked for.
    pub actions: Vec<String>,
    /// Transitions without a target: they happen inside.
    pub reactions: Vec<Line>,
    pub figures: Option<StateOverlay>,
}

/// How a final state ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    Ok,
    Error,
    Cancelled,
    /// None of the tags says.
    Plain,
}

/// All transitions from one state to another.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    pub from: usize,
    pub to: usize,
    pub lines: Vec<Line>,
}

/// One transition in words.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub trigger: String,
    /// What a named delay amounts to.
    pub detail: Option<String>,
    pub guard: Option<String>,
    pub actions: Vec<String>,
    pub description: Option<String>,
    pub way: Way,
    /// How often it was taken; means something only under an overlay.
    pub count: u64,
}

/// What a transition means for what is under way. Merged edges go by the first of these that they have.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Work is done and leads on.
    Onward,
    Error,
    Other,
}

/// Where a line is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Edge { edge: usize, line: usize },
    Reaction { node: usize, line: usize },
}

/// A row of a state's box below its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Work(String),
    Parked,
    Text(String),
    /// Figures of a state that chunks are in.
    Now(String),
    Figure(String),
}

impl Row {
    /// The row for formats that draw no signs.
    pub fn plain(&self) -> String {
        match self {
            Row::Work(handler) => format!("⚙ {handler}"),
            Row::Parked => "parked".to_owned(),
            Row::Text(text) | Row::Now(text) | Row::Figure(text) => text.clone(),
        }
    }
}

impl Graph {
    pub(super) fn root(&self) -> &Node {
        &self.nodes[0]
    }

    /// The machine's name with its version.
    pub(super) fn heading(&self) -> String {
        match &self.version {
            Some(version) => format!("{} {version}", self.root().label),
            None => self.root().label.clone(),
        }
    }

    /// What stands below the heading: the author's description, then the overlay's title.
    pub(super) fn subtitles(&self) -> impl Iterator<Item = &str> {
        let title = self.figures.as_ref().and_then(|figures| figures.title.as_deref());
        self.root().description.as_deref().into_iter().chain(title)
    }

    pub(super) fn is_inside(&self, node: usize, outer: usize) -> bool {
        std::iter::successors(self.nodes[node].parent, |node| self.nodes[*node].parent).any(|ancestor| ancestor == outer)
    }

    /// The rows of a state's box.
    pub(super) fn rows(&self, node: usize) -> Vec<Row> {
        let node = &self.nodes[node];
        let mut rows: Vec<Row> = node.work.iter().cloned().map(Row::Work).collect();
        rows.extend(node.parked.then_some(Row::Parked));
        rows.extend(node.actions.iter().cloned().map(Row::Text));
        rows.extend(node.reactions.iter().map(|line| Row::Text(self.line(line))));
        if let Some(figures) = &node.figures {
            let mut lines = figures.rows();
            rows.extend(lines.next().map(if figures.now > 0 { Row::Now } else { Row::Figure }));
            rows.extend(lines.map(Row::Figure));
        }
        rows
    }

    /// A transition on one line, with its count if there is an overlay.
    pub(super) fn line(&self, line: &Line) -> String {
        let mut text = line.trigger.clone();
        if let Some(detail) = &line.detail {
            text += &format!(" ({detail})");
        }
        if let Some(guard) = &line.guard {
            text += &format!(" [{guard}]");
        }
        if !line.actions.is_empty() {
            text += &format!(" / {}", line.actions.join(", "));
        }
        if self.figures.is_some() {
            text += &format!(" · {}", units::count(line.count));
        }
        text
    }

    /// True under an overlay in which the edge does not occur.
    pub(super) fn is_idle(&self, edge: &Edge) -> bool {
        self.figures.is_some() && edge.count() == 0
    }
}

impl Node {
    pub fn is_compound(&self) -> bool {
        !self.children.is_empty()
    }
}

impl Edge {
    pub fn count(&self) -> u64 {
        self.lines.iter().map(|line| line.count).sum()
    }

    pub fn way(&self) -> Way {
        self.lines.iter().map(|line| line.way).min().unwrap_or(Way::Other)
    }

    /// 0 for an edge never taken, then one for each power of ten: what line widths are made of.
    pub fn magnitude(&self) -> u32 {
        self.count().checked_ilog10().map_or(0, |log| log + 1)
    }
}
