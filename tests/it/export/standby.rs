//! Standbys: those that stand still are read without a snapshot and gone on with for ever; those that replay may take the snapshot away.

use super::assert_same;
use super::faults::until;
use super::resume::{audited, command, half_done};
use super::server::{Closed, gate};
use crate::support::cluster::{Cluster, Database, Options};
use crate::support::program::{Folder, Ran, ran, row_to_json, run, shown};
use insta::assert_snapshot;
use std::process::Stdio;

/// A primary with the table `t`, about 20 MB in 11 ranges.
fn primary() -> Cluster {
    let primary = Cluster::start(&Options::default());
    primary.psql("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS pad FROM generate_series(10001, 60000) i");
    primary
}

/// Rows leave their places, and others take them.
fn change(primary: &Cluster) {
    primary.psql("DELETE FROM t WHERE id % 3 = 0; VACUUM t; UPDATE t SET pad = 'changed' WHERE id % 5 = 0; VACUUM t");
}

/// What a person reads, with places in the log by their order of appearance.
fn placed(text: &str, folder: &Folder, database: &Database<'_>, places: &[&str]) -> String {
    let text = shown(text, folder, database);
    (1..).zip(places).fold(text, |text, (number, place): (u8, _)| text.replace(place, &format!("[place {number}]")))
}

#[test]
fn a_standby_that_stands_still_is_gone_on_with_whatever_the_primary_does() {
    let primary = primary();
    let standby = primary.standby(&["max_standby_streaming_delay = 0"]);
    standby.catch_up_with(&primary);
    let (here, there) = (primary.database("postgres"), standby.database("postgres"));
    let folder = Folder::new();
    let refused = |database: &Database<'_>| ran(&mut command(database, &folder, "--consistency frozen")).expect(78).stderr;
    assert_snapshot!(refused(&here), @"error: --consistency frozen reads a standby whose replay is paused, and this server is a primary: connect to a standby or a clone, and stop it there with SELECT pg_wal_replay_pause()");
    assert_snapshot!(refused(&there), @"error: --consistency frozen reads a standby whose replay is paused, and this one is replaying: stop it with SELECT pg_wal_replay_pause()");
    assert_eq!(folder.names(), [] as [&str; 0]);

    let first = standby.stand_still();
    let aged = ran(&mut command(&there, &folder, "--consistency frozen --max-snapshot-age 5s")).expect(78).stderr;
    assert_snapshot!(aged, @"error: --max-snapshot-age: --consistency frozen holds no snapshot; leave it out");
    let plan = ran(&mut command(&there, &folder, "--consistency frozen --connections 1 --plan")).expect(0);
    let plan: Vec<&str> = plan.text().lines().filter(|line| line.contains("moment  ") || line.contains("resumable  ")).collect();
    assert_snapshot!(placed(&plan.join("\n"), &folder, &there, &[&first]), @"
    moment     one, of a standby that stands still at [place 1]
    resumable  yes, for ever, on every clone that stands at the same place of the log
    ");
    assert_eq!(folder.names(), [] as [&str; 0]);
    let expected = row_to_json(&there, "t");
    let folder = half_done(&there, "--consistency frozen");
    change(&primary);
    let ended = ran(command(&there, &folder, "--consistency frozen").args(["--report", "json"])).expect(0);
    let report: serde_json::Value = serde_json::from_str(ended.text()).unwrap();
    assert_eq!((&report[0]["snapshot"]["frozen"], &report[0]["snapshot"]["lsn"]), (&true.into(), &first.clone().into()));
    assert_eq!(report[0]["run"]["rows"]["written"], 50_000);
    assert_same(&folder.read("out.jsonl"), &expected);
    audited(&folder);
    let verify = |database: &Database<'_>| {
        let journal = folder.text("out.jsonl.journal");
        run(["verify", &journal, "--against-source", "--from", &database.url()])
    };
    assert!(verify(&there).expect(0).text().ends_with("as in the source\n"));
    assert!(verify(&here).expect(1).text().contains("50,000 rows then, 33,333 now; "), "{}", verify(&here).text());

    // Behind it the standby goes on, and is stopped elsewhere.
    let folder = half_done(&there, "--consistency frozen");
    standby.psql("SELECT pg_wal_replay_resume()");
    standby.catch_up_with(&primary);
    let second = standby.stand_still();
    let ended = ran(&mut command(&there, &folder, "--consistency frozen")).expect(78);
    assert_snapshot!(placed(&ended.stderr, &folder, &there, &[&first, &second]), @"
    error: t was begun on a standby that stood at [place 1], and this one stands at [place 2]
    Have a clone stop at [place 1] (docs/frozen.md says how); or leave --consistency frozen out, and it goes on if the table is proved unchanged; or start over with --fresh.
    ");
    let ended = ran(&mut command(&there, &folder, "")).expect(78);
    assert!(ended.stderr.contains("has changed since it was begun"), "{}", ended.stderr);
}

/// Rows of two states would be mixed.
#[test]
fn replay_that_goes_on_while_it_is_read_ends_the_export() {
    let primary = primary();
    let standby = primary.standby(&["max_standby_streaming_delay = 0"]);
    gate(&primary.database("postgres"));
    standby.catch_up_with(&primary);
    let there = standby.database("postgres");
    // What runs into a conflict is cancelled and begun again; what does not is read to the range's end. Neither counts.
    for (change, is_cancelled) in [("UPDATE t SET pad = 'x' WHERE id = 59000", false), ("DELETE FROM t WHERE id % 3 = 0; VACUUM t", true)] {
        let first = standby.stand_still();
        primary.psql(change.split("; ").next().unwrap());
        primary.psql(change.split("; ").nth(1).unwrap_or_default());
        let folder = Folder::new();
        let closed = Closed::at(&there, 20_000);
        let child =
            command(&there, &folder, "--consistency frozen --connections 1 --where gate(id)").stderr(Stdio::piped()).spawn().unwrap();
        closed.wait();
        standby.psql("SELECT pg_wal_replay_resume()");
        standby.catch_up_with(&primary);
        standby.stand_still();
        drop(closed);
        let ended = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(78), "{stderr}");
        assert_eq!(stderr.contains("paused, will try again"), is_cancelled, "{stderr}");
        let error: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error")).collect();
        let error = placed(&error.join("\n"), &folder, &there, &[&first]);
        // Who was cancelled looks again at once, wherever replay is by then.
        let (before, behind) = error.split_once(" to ").and_then(|(before, rest)| Some((before, rest.split_once(';')?.1))).unwrap();
        insta::allow_duplicates!(
            assert_snapshot!(format!("{before} to elsewhere;{behind}"), @"error: replay went on while the standby was read, from [place 1] to elsewhere; go on from a clone that stands at [place 1], or start over with --fresh")
        );
        assert!(folder.join("out.jsonl.partial").exists() && !folder.join("out.jsonl").exists());
    }
}

/// Another clone that was stopped at the same place has the same rows on the same pages, also after a crash.
#[test]
fn a_clone_at_the_same_place_of_the_log_goes_on_with_it() {
    let primary = primary();
    gate(&primary.database("postgres"));
    let (standby, clone) = (primary.standby(&[]), primary.standby(&[]));
    clone.stand_still();
    primary.psql("UPDATE t SET pad = 'before' WHERE id % 7 = 0; VACUUM t");
    standby.catch_up_with(&primary);
    let place = standby.stand_still();
    change(&primary);
    let there = standby.database("postgres");
    let expected = row_to_json(&there, "t");
    let folder = half_done(&there, "--consistency frozen --where gate(id)");
    standby.stop();
    for setting in ["recovery_target_inclusive = off", "recovery_target_action = 'pause'", &format!("recovery_target_lsn = '{place}'")] {
        clone.psql(&format!("ALTER SYSTEM SET {setting}"));
    }
    clone.stop();
    clone.start_again();
    until("the clone stands still", || clone.psql("SELECT pg_get_wal_replay_pause_state()") == "paused");
    assert_eq!(clone.psql("SELECT pg_last_wal_replay_lsn()"), place);
    let here = clone.database("postgres");
    let closed = Closed::at(&here, 59_000);
    let child = command(&here, &folder, "--consistency frozen --where gate(id)").stderr(Stdio::piped()).spawn().unwrap();
    closed.wait();
    clone.crash();
    drop(closed);
    clone.start_again();
    let ended: Ran = child.wait_with_output().unwrap().into();
    let ended = ended.expect(0);
    assert!(ended.stderr.contains("paused, will try again"), "{}", ended.stderr);
    assert_same(&folder.read("out.jsonl"), &expected);
    audited(&folder);
}

/// On a standby that replays, the rows of a snapshot may be cleaned away on the primary: the standby then ends whoever holds it. The run
/// goes on under another snapshot if it proves that nothing of the table has changed, and is refused otherwise.
#[test]
fn a_snapshot_that_a_standby_takes_away_costs_no_row() {
    let primary = primary();
    primary.psql("CREATE TABLE other AS SELECT i FROM generate_series(1, 1000) i");
    gate(&primary.database("postgres"));
    let standby = primary.standby(&["max_standby_streaming_delay = 0"]);
    let there = standby.database("postgres");
    for (change, code) in [("other", 0), ("t", 78)] {
        standby.catch_up_with(&primary);
        let folder = Folder::new();
        let closed = Closed::at(&there, 50_000);
        let child = command(&there, &folder, "--connections 2 --where gate(id)").stderr(Stdio::piped()).spawn().unwrap();
        closed.wait();
        until("some finished ranges", || {
            let journal = rusqlite::Connection::open(folder.join("out.jsonl.journal")).unwrap();
            journal.query_row("SELECT count(*) FROM chunks WHERE final", [], |row| row.get::<_, i64>(0)).is_ok_and(|chunks| chunks > 300)
        });
        primary.psql(&format!("DELETE FROM {change} WHERE ctid = '(0,7)'"));
        primary.psql(&format!("VACUUM {change}"));
        standby.catch_up_with(&primary);
        drop(closed);
        let ended: Ran = child.wait_with_output().unwrap().into();
        let ended = ended.expect(code);
        assert!(ended.stderr.contains("conflict with recovery"), "{}", ended.stderr);
        assert!(ended.stderr.contains("going on under a new snapshot, if nothing has changed"), "{}", ended.stderr);
        if code == 0 {
            assert_same(&folder.read("out.jsonl"), &row_to_json(&there, "t"));
            audited(&folder);
        } else {
            let error = ended.stderr.split_once("error: ").expect("an error").1;
            assert_snapshot!(error, @"
            t has changed since it was begun, so the rest would not fit to what is there: t pages 0-254 had 5610 rows and has 5609 now
            --fresh exports it anew under one snapshot; --consistency mixed goes on all the same, and rows may be lost or doubled.
            ");
            assert!(!folder.join("out.jsonl").exists());
        }
    }
}
