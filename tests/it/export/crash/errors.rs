//! Every step fails: once, from some time on, or only with its answer. The run goes on where that is safe and else ends with exit code 74;
//! either way the same command comes to the same bytes.

use super::{PLAIN, Shape, Tally, Written, places, power, side_by_side};
use crate::support::program::{Folder, ran};
use std::collections::BTreeSet;
use std::process::Stdio;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

/// Steps that must never be tried again: the system may have dropped what it could not write, and would call the second try a success.
const SYNCS: [&str; 6] =
    ["output.sync", "output.sync_all", "output.folder", "dead_letter.sync", "dead_letter.sync_all", "dead_letter.folder"];

fn steps(shape: &Shape, folder: &Folder) -> BTreeSet<String> {
    let log = Folder::new();
    ran(shape.command(folder.path()).env("SLUICEGATE_STEPS", log.join("steps"))).expect(3);
    places(&log.read("steps")).keys().map(|place| place.rsplit_once('.').unwrap().0.to_owned()).collect()
}

/// Has one step fail, looks how that ends, and goes on.
fn fail(folder: &Folder, step: &str, how: &str, expected: &Written, tally: &Tally) {
    let log = Folder::new();
    let mut command = PLAIN.command(folder.path());
    command
        .args(["--give-up-after", "250ms"])
        .env("SLUICEGATE_FAIL_AT", format!("{step}:{how}"))
        .env("SLUICEGATE_STEPS", log.join("steps"));
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let what = format!("{step} fails, {how}");
    let code = output.status.code();
    assert!(code == Some(74) || code == Some(3), "{what}: {code:?}\n{stderr}");
    if code == Some(74) {
        assert!(stderr.contains("error: ") && stderr.contains("  because: "), "{what}:\n{stderr}");
    }
    let places = places(&log.read("steps"));
    let times = |when: &str| places.get(&format!("{step}.{when}")).copied().unwrap_or(0);
    let has_failed = times("before") > times("after");
    let is_commit = ["journal.checkpoint", "journal.intent"].contains(&step) && how.ends_with("sync");
    if (SYNCS.contains(&step) || is_commit) && has_failed {
        assert_eq!(code, Some(74), "{what}: a sync that failed was taken for a success\n{stderr}");
        assert_eq!(times("before"), times("after") + 1, "{what}: it was tried again");
        assert!(stderr.contains("cannot be made durable"), "{what}:\n{stderr}");
    }
    let is_full = how.ends_with(&ENOSPC.to_string()) || how.ends_with(&EDQUOT.to_string());
    if is_full && has_failed && (step.ends_with(".write") || step.ends_with(".flush")) {
        assert!(stderr.contains("no space left on the device"), "{what}:\n{stderr}");
    }
    PLAIN.go_on(folder.path(), expected, &what, tally);
}

#[test]
fn a_step_that_fails_costs_nothing() {
    let (expected, _) = PLAIN.undisturbed();
    let tally = Tally::default();
    let (begun, _disk) = PLAIN.begun("output.sync.after", 5);
    let of_a_new_run = steps(&PLAIN, &Folder::new());
    let of_a_run_that_goes_on = steps(&PLAIN, &power::copy(begun.path()).0);
    let mut cases = Vec::new();
    for step in &of_a_new_run {
        let is_file = !step.starts_with("journal");
        let fills = step.ends_with(".write") || step.ends_with(".flush");
        let errors = if fills {
            vec![EIO, ENOSPC, EDQUOT]
        } else if is_file {
            vec![EIO]
        } else {
            vec![EIO, ENOSPC]
        };
        cases.push((false, step, format!("1:{EIO}")));
        cases.push((false, step, format!("1:{EIO}:{}", if is_file { "late" } else { "sync" })));
        cases.extend(errors.into_iter().map(|error| (false, step, format!("2+:{error}"))));
    }
    for step in &of_a_run_that_goes_on {
        cases.push((true, step, format!("1:{EIO}")));
    }
    side_by_side(&cases, |_, (goes_on, step, how)| {
        let folder = if *goes_on { power::copy(begun.path()).0 } else { Folder::new() };
        fail(&folder, step, how, &expected, &tally);
    });
    println!("steps that fail: {} steps, {} failures", of_a_new_run.union(&of_a_run_that_goes_on).count(), cases.len());
    tally.conclude("gone on with after them", of_a_new_run.union(&of_a_run_that_goes_on).count());
}
