//! The pictures of real and random machines: nothing overlaps, every text fits.

use super::super::layout::geometry;
use super::super::overlay::{Overlay, StateOverlay};
use super::*;
use crate::fsm::{CompileOptions, Machine, compile};

const DEFINITIONS: [&str; 10] = [
    include_str!("../../../fsm-definitions/chunk.json"),
    include_str!("../../../fsm-definitions/direct.json"),
    include_str!("../../../fsm-definitions/patient.json"),
    include_str!("../../../fsm-definitions/quarantine.json"),
    include_str!("../../../fsm-definitions/run.json"),
    include_str!("../../../tests/conformance/examples/2-nested-retry-dead-letter.json"),
    include_str!("../../../tests/conformance/examples/3-quarantine-routing.json"),
    include_str!("../../../tests/conformance/examples/4-two-phase-sink.json"),
    include_str!("../../../tests/it/diagram/delivery.json"),
    include_str!("../../../tests/it/diagram/hostile.json"),
];
/// From the conformance kit's generator, one a line.
const RANDOM: &str = include_str!("../../../tests/it/diagram/random.jsonl");

fn machines() -> Vec<Machine> {
    let texts = DEFINITIONS.into_iter().chain(RANDOM.lines());
    let machine = |text: &str| compile(serde_json::from_str(text).unwrap(), &CompileOptions::default()).unwrap();
    texts.map(machine).collect()
}

/// Figures for about half of the moves that the machine can make.
fn figures(machine: &Machine) -> Overlay {
    let mut dice = geometry::Dice(7);
    let mut overlay = Overlay { title: Some("run 7".to_owned()), ..Overlay::default() };
    for leaf in machine.states().filter(|state| machine.is_leaf(*state)) {
        let mut number = |limit: usize| dice.below(limit) as u64;
        let (now, entered, retries, errors) = (number(4), number(9999), number(3), number(3));
        let (median_seconds, p99_seconds) = (number(999) as f64 * 1e-6, number(99_999) as f64 * 1e-3);
        let state = StateOverlay { now, entered, retries, errors, median_seconds, p99_seconds };
        overlay.states.insert(machine.state_name(leaf).to_owned(), state);
        for event in machine.events() {
            for candidate in machine.candidates(leaf, event) {
                let [from, to] = [leaf, candidate.target].map(|state| machine.state_name(state).to_owned());
                let count = number(2) * 10_u64.pow(u32::try_from(number(8)).unwrap());
                overlay.edges.insert((from, to, machine.event_name(event).to_owned()), count);
            }
        }
    }
    overlay
}

fn assert_sound(graph: &Graph) {
    let picture = Picture::of(graph);
    let model = model(graph, &picture.cards, &picture.labels);
    let faults = geometry::faults(&model, &picture.drawing);
    assert!(faults.is_empty(), "{}: {faults:#?}", graph.heading());
    for (card, area) in picture.cards.iter().zip(&picture.drawing.headings) {
        assert_fits(card, area);
    }
    for (card, route) in picture.labels.iter().zip(&picture.drawing.routes) {
        assert_fits(card, &route.label.expect("every transition has a label"));
    }
}

fn assert_fits(card: &Card, area: &Rect) {
    assert!(card.size.w <= area.w && card.size.h <= area.h, "{card:?} in {area:?}");
    for line in &card.lines {
        assert!(line.indent + line.width <= card.size.w && line.y <= card.size.h, "{line:?} in {:?}", card.size);
    }
}

#[test]
fn no_picture_has_a_fault() {
    for machine in machines() {
        assert_sound(&Graph::of(&machine));
    }
}

#[test]
fn no_picture_of_a_run_has_a_fault() {
    for machine in machines() {
        let mut graph = Graph::with_actions(&machine);
        graph.overlay(&figures(&machine));
        assert_sound(&graph);
    }
}

#[test]
fn pictures_of_what_ships_are_no_odd_strips() {
    for machine in machines().iter().take(9) {
        let Size { w, h } = Picture::of(&Graph::of(machine)).drawing.size;
        assert!(w < 1400 && h < 2100 && w * 3 > h && h * 3 > w, "{}: {w} × {h}", machine.definition().id);
    }
}

#[test]
fn lines_are_rounded_and_end_in_their_heads() {
    let points = [(0, 0), (0, 40), (50, 40), (50, 100)].map(|(x, y)| Point { x, y });
    assert_eq!(path(&points), "M0 0L0 34Q0 40 6 40L44 40Q50 40 50 46L50 96");
    assert_eq!(head(&points, 9), "M50 100L54 91L46 91Z");
    let short = [(0, 0), (0, 4), (3, 4), (3, 20)].map(|(x, y)| Point { x, y });
    assert_eq!(path(&short), "M0 0L0 3Q0 4 1 4L2 4Q3 4 3 5L3 16");
}
