//! Diagrams as their readers get them. That nothing overlaps in a picture is checked where pictures are made.

use insta::assert_snapshot;
use sluicegate::diagram::{Format, Graph, Overlay, StateOverlay, render};
use sluicegate::fsm::{CompileOptions, Machine, compile};

const CHUNK: &str = include_str!("../../fsm-definitions/chunk.json");
const DIRECT: &str = include_str!("../../fsm-definitions/direct.json");
const ROUTING: &str = include_str!("../conformance/examples/3-quarantine-routing.json");
const TWO_PHASE: &str = include_str!("../conformance/examples/4-two-phase-sink.json");
const DELIVERY: &str = include_str!("diagram/delivery.json");
const HOSTILE: &str = include_str!("diagram/hostile.json");
const RANDOM: &str = include_str!("diagram/random.jsonl");
const FORMATS: [Format; 3] = [Format::Mermaid, Format::Dot, Format::Svg];

fn machine(text: &str) -> Machine {
    compile(serde_json::from_str(text).unwrap(), &CompileOptions::default()).unwrap_or_else(|report| panic!("{report}"))
}

fn all() -> impl Iterator<Item = Machine> {
    [CHUNK, DIRECT, ROUTING, TWO_PHASE, DELIVERY, HOSTILE].into_iter().chain(RANDOM.lines()).map(machine)
}

fn draw(text: &str, format: Format) -> String {
    render(&Graph::of(&machine(text)), format)
}

/// What stands on a run's diagram; edges are `from to event count`.
fn overlay(states: &[(&str, StateOverlay)], edges: &[(&str, &str, &str, u64)]) -> Overlay {
    let states = states.iter().map(|(name, figures)| ((*name).to_owned(), *figures)).collect();
    let edges = edges.iter().map(|(from, to, event, count)| (((*from).to_owned(), (*to).to_owned(), (*event).to_owned()), *count));
    Overlay { states, edges: edges.collect(), title: Some("run 7".to_owned()) }
}

/// The lines that contain a word.
fn lines(text: &str, word: &str) -> String {
    text.lines().filter(|line| line.contains(word)).map(|line| format!("{}\n", line.trim())).collect()
}

/// All text of a picture, one element a line.
fn written(svg: &str) -> Vec<String> {
    let elements = svg.split("<text").skip(1).filter_map(|rest| rest.split_once("</text>"));
    elements.map(|(element, _)| tags_removed(&format!("<text{element}"))).collect()
}

fn tags_removed(xml: &str) -> String {
    let parts = xml.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text);
    parts.collect::<String>().trim().replace("&gt;", ">").replace("&lt;", "<").replace("&quot;", "\"")
}

#[test]
fn mermaid_of_a_small_machine() {
    assert_snapshot!(draw(DIRECT, Format::Mermaid), @r#"
    ---
    title: "direct 1.0.0"
    ---
    stateDiagram-v2
        state "any state in direct" as any0
        state "received<br/>⚙ transform" as s_received
        state "transformed<br/>⚙ sink" as s_transformed
        state "sunk" as s_sunk
        state "failed" as s_failed
        state "cancelled" as s_cancelled
        [*] --> s_received
        s_sunk --> [*]
        s_failed --> [*]
        s_cancelled --> [*]
        any0 --> s_cancelled : CANCEL
        s_received --> s_transformed : done
        s_received --> s_failed : error<br/>after stageTimeout (1 min)
        s_transformed --> s_sunk : done
        s_transformed --> s_failed : error
        classDef ok fill:#d5efe6,stroke:#00704f,color:#1f2933
        class s_sunk ok
        classDef error fill:#fbe2d3,stroke:#b34700,color:#1f2933
        class s_failed error
        classDef cancelled fill:#e4e7eb,stroke:#52606d,color:#1f2933
        class s_cancelled cancelled
    "#);
}

#[test]
fn dot_of_a_small_machine() {
    assert_snapshot!(draw(DIRECT, Format::Dot), @r##"
    digraph "direct" {
        graph [compound=true, newrank=true, fontname="Helvetica", fontsize=13, labelloc=t, labeljust=l, label="direct 1.0.0\lTransform and sink: no validation, no second try, no dead letter. For trusted sources where a failed chunk should be seen at once.\l"];
        node [shape=box, style="rounded,filled", fillcolor=white, color="#52606d", fontname="Helvetica", fontsize=11];
        edge [color="#616e7c", fontname="Helvetica", fontsize=10, arrowsize=0.8];
        any0 [label="any state in direct", style=dashed];
        start0 [shape=circle, style=filled, fillcolor="#1f2933", width=0.15, label=""];
        start0 -> "received" [];
        "received" [label="received\n⚙ transform", tooltip="received"];
        "transformed" [label="transformed\n⚙ sink", tooltip="transformed"];
        "sunk" [label="sunk", tooltip="sunk", peripheries=2, fillcolor="#d5efe6", color="#00704f"];
        "failed" [label="failed", tooltip="failed", peripheries=2, fillcolor="#fbe2d3", color="#b34700"];
        "cancelled" [label="cancelled", tooltip="cancelled", peripheries=2, fillcolor="#e4e7eb"];
        any0 -> "cancelled" [label="CANCEL\l"];
        "received" -> "transformed" [label="done\l", color="#1f2933"];
        "received" -> "failed" [label="error\lafter stageTimeout (1 min)\l", color="#b34700"];
        "transformed" -> "sunk" [label="done\l", color="#1f2933"];
        "transformed" -> "failed" [label="error\l", color="#b34700"];
    }
    "##);
}

#[test]
fn transitions_are_in_words() {
    assert_snapshot!(lines(&draw(CHUNK, Format::Mermaid), "-->"), @"
    [*] --> s_received
    s_sunk --> [*]
    s_failed --> [*]
    s_cancelled --> [*]
    any0 --> s_cancelled : CANCEL
    s_received --> s_validated : done
    s_received --> s_rejected : error [error.kind in invalid]
    s_received --> s_retried : error [else]<br/>after stageTimeout (30 s)
    s_validated --> s_transformed : done
    s_validated --> s_retried : error<br/>after stageTimeout (30 s)
    s_transformed --> s_sunk : done
    s_transformed --> s_retried : error
    s_retried --> s_received : after retryBackoff (100 ms ×2 … 5 s, full jitter) [stage = validate]
    s_retried --> s_validated : after retryBackoff (100 ms ×2 … 5 s, full jitter) [stage = transform]
    s_retried --> s_transformed : after retryBackoff (100 ms ×2 … 5 s, full jitter) [else]
    s_retried --> s_rejected : always [attempt > maxAttempts]
    s_rejected --> s_failed : done<br/>error
    ");
    assert_snapshot!(lines(&draw(TWO_PHASE, Format::Mermaid), "state \""), @r#"
    state "waitingForCredit" as s_waitingForCredit
    state "leased" as s_leased {
    state "preparing<br/>⚙ prepare" as s_leased_preparing
    state "prepared" as s_leased_prepared
    state "committing<br/>CANCEL refused" as s_leased_committing {
    state "attempt<br/>⚙ commit" as s_leased_committing_attempt
    state "wait" as s_leased_committing_wait
    state "confirmed" as s_leased_committing_confirmed
    state "rollingBack<br/>⚙ rollback" as s_rollingBack
    state "committed" as s_committed
    state "abandoned" as s_abandoned
    state "inDoubt" as s_inDoubt
    "#);
}

#[test]
fn what_stays_inside_a_state_is_written_there() {
    assert_snapshot!(lines(&draw(ROUTING, Format::Mermaid), "state \""), @r#"
    state "any state in quarantine" as any0
    state "scoring<br/>⚙ score" as s_scoring
    state "routing" as s_routing
    state "held<br/>NOTE / notes += 1" as s_held {
    state "unassigned<br/>CLAIM / raise ASSIGN" as s_held_unassigned
    state "assigned<br/>RESCORE refused" as s_held_assigned
    state "approved" as s_held_approved
    state "released" as s_released
    state "discarded" as s_discarded
    "#);
}

#[test]
fn frames_stand_for_all_states_inside() {
    let mermaid = draw(HOSTILE, Format::Mermaid);
    assert_snapshot!(lines(&mermaid, "any0") + &lines(&mermaid, "any5") + &lines(&mermaid, "again"), @r#"
    state "any state in hostile" as any0
    any0 --> s_class : CANCEL
    any0 --> s3_note_right : end
    state "any state in direction" as any5_direction
    any5_direction --> again5_direction : SELF
    any5_direction --> s_direction_y : IN
    state "↻ hostile" as again0
    state "↻ direction" as again5_direction
    any5_direction --> again5_direction : SELF
    s_direction_x --> again5_direction : UP
    s_direction_y --> again0 : TOP
    "#);
}

#[test]
fn the_picture_says_what_the_other_formats_say() {
    let text = written(&draw(CHUNK, Format::Svg)).join("\n");
    for expected in [
        "chunk 1.0.0",
        "validate",
        "error [error.kind in invalid]",
        "after stageTimeout (30 s)",
        "(100 ms ×2 … 5 s, full jitter)",
        "always [attempt > maxAttempts]",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
}

#[test]
fn a_run_puts_its_figures_on_states_and_edges() {
    let received = StateOverlay { now: 3, entered: 2419, retries: 2, errors: 1, median_seconds: 165e-6, p99_seconds: 217e-6 };
    let mut graph = Graph::of(&machine(CHUNK));
    graph.overlay(&overlay(
        &[("received", received), ("sunk", StateOverlay { entered: 2400, ..StateOverlay::default() })],
        &[
            ("", "received", "xstate.init", 2419),
            ("received", "validated", "xstate.done.actor.validate", 2416),
            ("received", "retried", "xstate.after.stageTimeout.chunk.received", 1),
            ("received", "retried", "xstate.error.actor.validate", 1),
            // An `always` goes by the event before it.
            ("retried", "rejected", "xstate.error.actor.validate", 1),
            ("received", "cancelled", "CANCEL", 4),
            ("validated", "cancelled", "CANCEL", 6),
            ("retried", "received", "sluicegate.recovered", 12),
        ],
    ));
    let mermaid = render(&graph, Format::Mermaid);
    assert_snapshot!(lines(&mermaid, "s_received") + &lines(&mermaid, "s_rejected") + &lines(&mermaid, "CANCEL"), @r#"
    state "received<br/>⚙ validate<br/>now 3 · entered 2,419<br/>retries 2 · errors 1<br/>median 165 µs · p99 217 µs" as s_received
    [*] --> s_received
    s_received --> s_validated : done · 2,416
    s_received --> s_rejected : error [error.kind in invalid] · 0
    s_received --> s_retried : error [else] · 1<br/>after stageTimeout (30 s) · 1
    s_retried --> s_received : after retryBackoff (100 ms ×2 … 5 s, full jitter) [stage = validate] · 0
    state "rejected<br/>⚙ deadLetter" as s_rejected
    s_received --> s_rejected : error [error.kind in invalid] · 0
    s_retried --> s_rejected : always [attempt > maxAttempts] · 1
    s_rejected --> s_failed : done · 0<br/>error · 0
    any0 --> s_cancelled : CANCEL · 10
    "#);
    let svg = render(&graph, Format::Svg);
    let text = written(&svg).join("\n");
    for expected in [
        "run 7",
        "now 3 · entered 2,419",
        "retries 2 · errors 1",
        "median 165 µs · p99 217 µs",
        "never taken",
        "12 moves that are no transition of this definition",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    assert!(svg.contains("stroke-width:2.5"), "2,416 is a number of four digits");
    assert!(render(&graph, Format::Dot).contains("style=dashed, color=\"#a9b3be\""));
}

#[test]
fn figures_of_one_run_replace_those_of_another() {
    let mut graph = Graph::of(&machine(DIRECT));
    let first = overlay(&[], &[("received", "sunk", "xstate.done.actor.sink", 5)]);
    graph.overlay(&first);
    let once = render(&graph, Format::Svg);
    graph.overlay(&first);
    assert_eq!(render(&graph, Format::Svg), once);
    graph.overlay(&Overlay::default());
    assert!(lines(&render(&graph, Format::Mermaid), "done").ends_with("done · 0\n"));
}

#[test]
fn events_count_for_the_wildcard_that_takes_them() {
    let mut graph = Graph::of(&machine(ROUTING));
    graph.overlay(&overlay(&[], &[("scoring", "scoring", "audit.login.failed", 3), ("routing", "routing", "audit", 1)]));
    assert!(written(&render(&graph, Format::Svg)).contains(&"audit.* / recordAudit · 4".to_owned()));
}

#[test]
fn the_same_machine_gives_the_same_bytes() {
    for text in [CHUNK, DELIVERY] {
        for format in FORMATS {
            assert_eq!(draw(text, format), draw(text, format));
        }
    }
}

#[test]
fn pictures_are_well_formed_and_need_nothing_from_elsewhere() {
    for machine in all() {
        let svg = render(&Graph::with_actions(&machine), Format::Svg);
        assert_well_formed(&svg);
        assert_for_people(&svg);
        let mut references = svg.match_indices("://");
        assert!(references.all(|(at, _)| svg[..at].ends_with("xmlns=\"http")), "a reference to elsewhere");
        assert!(!svg.contains("<script") && !svg.contains("href"));
    }
}

/// The names that the machine gives its own events and built-in actions are not shown.
fn assert_for_people(text: &str) {
    assert!(!text.contains("xstate.") && !text.contains("fsm."), "{text}");
}

/// Enough of XML 1.0 for what is written here: tags that match, attributes in quotes, known entities, allowed characters.
fn assert_well_formed(xml: &str) {
    let is_allowed = |c: char| matches!(c, '\n' | '\t' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    assert!(xml.chars().all(is_allowed), "characters that XML does not allow");
    for (at, _) in xml.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
        assert!(known.iter().any(|entity| xml[at..].starts_with(entity)), "{}", &xml[at..(at + 20).min(xml.len())]);
    }
    let mut open: Vec<&str> = Vec::new();
    for part in xml.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("tags are closed");
        assert!(!text.contains('>') || !tag.starts_with("title"), "{text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        assert!(!name.is_empty() && name.chars().all(char::is_alphabetic), "{tag}");
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} not closed");
}

/// The grammar of what is written here, as read from Mermaid's `stateDiagram.jison`.
#[test]
fn mermaid_keeps_to_the_grammar() {
    for machine in all() {
        let text = render(&Graph::with_actions(&machine), Format::Mermaid);
        assert_for_people(&text);
        let mut ids = Vec::new();
        let mut depth = 0;
        let body = text.split_once("stateDiagram-v2\n").expect("a header").1;
        for line in body.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("state \"") {
                let (label, rest) = rest.split_once("\" as ").expect("a label");
                assert!(!label.contains(['"', ';', '#', '`']), "{line}");
                let id = rest.trim_end_matches(" {");
                depth += usize::from(rest.ends_with('{'));
                assert!(!ids.contains(&id.to_owned()), "{id} is there twice");
                ids.push(id.to_owned());
            } else if line == "}" {
                depth -= 1;
            } else if let Some((from, rest)) = line.split_once(" --> ") {
                let (to, label) = rest.split_once(" : ").unwrap_or((rest, ""));
                assert!(!label.contains([':', ';', '#', '`']), "{line}");
                assert!([from, to].iter().all(|id| *id == "[*]" || ids.contains(&(*id).to_owned())), "{line}");
            } else {
                assert!(line.starts_with("classDef ") || line.starts_with("class "), "{line}");
            }
        }
        assert_eq!(depth, 0);
    }
}

#[test]
fn dot_keeps_to_the_grammar() {
    for machine in all() {
        let text = render(&Graph::with_actions(&machine), Format::Dot);
        assert_for_people(&text);
        let mut depth = 0;
        for line in text.lines() {
            // Outside of strings there is nothing but ids, brackets and signs.
            let mut outside = String::new();
            let mut in_string = false;
            let mut chars = line.chars();
            while let Some(c) = chars.next() {
                match c {
                    '\\' if in_string => drop(chars.next()),
                    '"' => in_string = !in_string,
                    c if !in_string => outside.push(c),
                    _ => {}
                }
            }
            assert!(!in_string, "{line}");
            assert!(outside.chars().all(|c| c.is_ascii_alphanumeric() || " _=,.;[]{}->".contains(c)), "{outside}");
            depth += outside.matches('{').count();
            depth -= outside.matches('}').count();
        }
        assert_eq!(depth, 0);
    }
}
