//! What a compiled machine can hold. Ids are 16 bits wide and tables are dense; a definition that a person wrote is far
//! below all of these.

use crate::fsm::finding::{self, Draft};
use crate::fsm::graph::{EventKind, Graph};
use crate::fsm::path::Path;

const STATES: usize = 4_096;
/// Of transitions, of events, of timers, and of names taken together.
const IDS: usize = 60_000;
/// Pairs of a state and an event, or of a state and a transition.
const CELLS: usize = 1 << 20;
/// Transitions that are candidates, summed over all such pairs.
const CANDIDATES: usize = 1 << 20;

/// The first limit that the graph exceeds, if any. `names` counts those of calls, guards and context keys.
pub(super) fn too_large(graph: &Graph<'_>, names: usize) -> Option<Draft> {
    let (states, events, edges) = (graph.nodes.len(), graph.events.len(), graph.edges.len());
    let exceeded = if states > STATES {
        format!("more than {STATES} states")
    } else if edges.max(events).max(graph.timers.len()).max(graph.invocations.len()).max(names) > IDS {
        format!("more than {IDS} transitions, events, timers or names")
    } else if states * events.max(edges) > CELLS {
        format!("more than {CELLS} pairs of a state with an event or a transition")
    } else if candidates(graph) > CANDIDATES {
        format!("more than {CANDIDATES} candidates for all pairs of a state and an event")
    } else {
        return None;
    };
    Some(Draft::new(finding::TOO_LARGE, Path::root(), exceeded))
}

/// A leaf's row of the table holds the exact lists of its chain once, and its wildcards once per event.
fn candidates(graph: &Graph<'_>) -> usize {
    let weight = |node: usize| -> usize {
        let times = |descriptor: &str| match graph.events.get(descriptor) {
            Some(EventKind::Rest | EventKind::Prefix) => graph.events.len(),
            _ => 1,
        };
        graph.nodes[node].handlers.iter().map(|(descriptor, edges)| edges.len() * times(descriptor)).sum()
    };
    let weights: Vec<usize> = (0..graph.nodes.len()).map(weight).collect();
    graph.leaves().map(|leaf| graph.chain(leaf).map(|node| weights[node]).sum::<usize>()).sum()
}
