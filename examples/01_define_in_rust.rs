//! A lifecycle written in Rust, the same as JSON, and a walk through it before anything real exists.
//!
//! Run with `cargo run --example 01_define_in_rust`.

use sluicegate::Definition;
use sluicegate::fsm::builder::{Backoff, Invoke, State, assign, from_event, gt, increment, to};
use sluicegate::fsm::{CompileOptions, check, compile, simulate};
use std::error::Error;

/// A parcel is packed, then handed to a carrier who may be out: then it waits, longer each time, and goes back after the third attempt.
fn in_rust() -> Definition {
    let root = State::starting_in("ordered")
        .on("CANCEL", ".cancelled")
        .state("ordered", State::new().invoke(Invoke::new("pack").on_done("packed").on_error("returned")).after("patience", "returned"))
        .state(
            "packed",
            State::new()
                .invoke(
                    Invoke::new("handOver").on_done("shipped").on_error(to("waiting").action(assign("reason", from_event("error.kind")))),
                )
                .after("patience", "waiting"),
        )
        .state(
            "waiting",
            State::new().entry(increment("attempt")).always(to("returned").when(gt("attempt", 3))).after("carrierBack", "packed"),
        )
        .state("shipped", State::end().tag("ok"))
        .state("returned", State::end().tag("error"))
        .state("cancelled", State::end().tag("cancelled"));
    Definition::new("parcel", root)
        .context("attempt", 0)
        .context("reason", serde_json::Value::Null)
        .delay("patience", 60_000)
        .delay("carrierBack", Backoff::new(1000).factor(2).max(10_000))
}

/// The same as a file would have it. It loads unmodified in XState and its visual editor.
const IN_JSON: &str = r#"{
    "id": "parcel",
    "meta": { "fsm": { "delays": { "patience": 60000, "carrierBack": { "base": 1000, "factor": 2, "max": 10000 } } } },
    "context": { "attempt": 0, "reason": null },
    "initial": "ordered",
    "on": { "CANCEL": ".cancelled" },
    "states": {
        "ordered": {
            "invoke": { "id": "pack", "src": "pack", "onDone": "packed", "onError": "returned" },
            "after": { "patience": "returned" }
        },
        "packed": {
            "invoke": {
                "id": "handOver", "src": "handOver", "onDone": "shipped",
                "onError": {
                    "target": "waiting",
                    "actions": { "type": "fsm.assign", "params": { "reason": { "$event": "error.kind" } } }
                }
            },
            "after": { "patience": "waiting" }
        },
        "waiting": {
            "entry": { "type": "fsm.assign", "params": { "attempt": { "$inc": 1 } } },
            "always": { "guard": { "type": "fsm.gt", "params": { "key": "attempt", "value": 3 } }, "target": "returned" },
            "after": { "carrierBack": "packed" }
        },
        "shipped": { "type": "final", "tags": ["ok"] },
        "returned": { "type": "final", "tags": ["error"] },
        "cancelled": { "type": "final", "tags": ["cancelled"] }
    }
}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let definition = in_rust();
    assert_eq!(definition, IN_JSON.parse()?, "two ways to say the same");
    assert!(check(&definition, None).findings.is_empty(), "and nothing is wrong with it");

    // `compile` is the only way to get a machine, so there is no unchecked one.
    let machine = compile(definition, &CompileOptions::default())?;

    // Time passes only where the script says so: the carrier is out twice, once for 1 s and once for 2 s.
    let script = "done:pack fail:handOver=out +1s fail:handOver=out +2s done:handOver";
    println!("The walk `{script}`:\n");
    let walk = simulate::walk(&machine, script)?;
    println!("{walk}");
    assert!(walk.trim_end().ends_with(r#"3000 ms: done in shipped (ok); context {"attempt":2,"reason":"out"}"#));

    // A word that means nothing is named, with what was probably meant.
    let error = simulate::walk(&machine, "done:pack done:handover").unwrap_err();
    println!("The walk `done:pack done:handover`:\n\n{error}");
    assert_eq!(error.to_string(), "event 2 `done:handover`: unknown invocation `handover`; did you mean `handOver`?");
    Ok(())
}
