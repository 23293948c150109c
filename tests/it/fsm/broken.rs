//! Broken definitions and the whole report about each. `broken/*.json` holds them; one snapshot per file.

use std::collections::BTreeSet;

use insta::assert_snapshot;
use sluicegate::fsm::{CODES, Class, Definition, Report, Role, Use, Vocabulary, check_text};

use super::{json_files, root};

/// What `broken/vocabulary.json` is checked against.
fn program() -> Vocabulary {
    Vocabulary::new()
        .guard("ready")
        .action("log")
        .handler("validate", Use::Optional, Role::Payload)
        .handler("sink", Use::Required, Role::Ordered)
        .handler("watch", Use::Optional, Role::Watcher)
        .handler("dump", Use::Required, Role::Payload)
}

fn reports() -> Vec<(String, Report)> {
    let report = |(name, text): (String, String)| {
        let vocabulary = (name == "vocabulary").then(program);
        let (definition, report) = check_text(&text, vocabulary.as_ref());
        let read = serde_json::from_str::<Definition>(&text);
        assert_eq!(definition, read.ok(), "{name}: a definition comes back when its shape is right");
        (name, report)
    };
    json_files(&root().join("broken")).into_iter().map(report).collect()
}

#[test]
fn every_report_is_as_reviewed() {
    for (name, report) in reports() {
        assert_snapshot!(name, report.to_string());
    }
}

#[test]
fn every_code_is_covered_and_has_its_class() {
    let mut seen = BTreeSet::new();
    for finding in reports().iter().flat_map(|(_, report)| &report.findings) {
        let code = CODES.iter().find(|code| code.name == finding.code).unwrap();
        assert_eq!(code.class, finding.class);
        seen.insert(finding.code);
    }
    let missing: Vec<&str> = CODES.iter().map(|code| code.name).filter(|name| !seen.contains(name)).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn findings_come_in_document_order_with_a_position() {
    for (name, report) in reports() {
        let positions: Vec<_> = report.findings.iter().map(|finding| finding.position.unwrap()).collect();
        assert!(positions.is_sorted(), "{name}");
        assert!(!report.is_clean(Class::Warning), "{name} is not broken");
    }
}
