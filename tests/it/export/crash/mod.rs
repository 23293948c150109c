//! The real program, crashed at every step that changes what a crash leaves behind, failing at every one, and gone on with. Only in a build
//! with the feature `failpoints`; `src/failpoint.rs` says how a step is named.

mod errors;
mod power;

use super::assert_same;
use crate::support::cluster::{Cluster, Database};
use crate::support::program::{Folder, export, ran, row_to_json, run};
use crate::support::random::Random;
use power::Survives;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

/// An export in 200 chunks and more, flushed often, with rows for the dead letter among them.
struct Shape {
    /// The name after `--to`.
    to: &'static str,
    /// The outputs that this stands for.
    files: &'static [&'static str],
    more: &'static str,
    is_ordered: bool,
}

const PLAIN: Shape = Shape { to: "out.jsonl", files: &["out.jsonl"], more: "--connections 2 --workers 2", is_ordered: true };

const ONE_WORKER: Shape = Shape { more: "--connections 1 --workers 1", ..PLAIN };

const PACKED: Shape = Shape { more: "--compress zstd:1 --connections 4 --workers 4", ..PLAIN };

const BY_KEY: Shape = Shape { more: "--consistency keyset --connections 2 --workers 2", ..PLAIN };

const UNORDERED: Shape = Shape { more: "--unordered --connections 4 --workers 4", is_ordered: false, ..PLAIN };

const PARTS: Shape = Shape {
    to: "out-{n}.jsonl",
    files: &["out-0.jsonl", "out-1.jsonl", "out-2.jsonl"],
    more: "--connections 3 --workers 4",
    is_ordered: true,
};

/// What an undisturbed run of a shape writes, the dead letter last.
type Written = Vec<Vec<u8>>;

impl Shape {
    fn command(&self, folder: &Path) -> Command {
        let to = folder.join(self.to).display().to_string();
        let arguments = format!("--table t --to {to} --quiet --chunk-rows 50 --checkpoint-bytes 24KiB {}", self.more);
        let mut command = export(database(), &arguments);
        command.stderr(Stdio::null());
        command
    }

    fn beside(&self, what: &str) -> String {
        format!("{}.{what}", self.to.replace("{n}", "N"))
    }

    fn names(&self) -> Vec<String> {
        let files = self.files.iter().map(|name| (*name).to_owned());
        files.chain([self.beside("dead.jsonl"), self.beside("journal")]).collect()
    }

    fn written(&self, folder: &Path) -> Written {
        let mut names = self.names();
        names.pop();
        names.iter().map(|name| std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))).collect()
    }

    /// Runs undisturbed: once, for what it writes and the places it comes by; the server says whether that is right.
    fn undisturbed(&self) -> (Written, BTreeMap<String, u64>) {
        let folder = Folder::new();
        let log = Folder::new();
        ran(self.command(folder.path()).env("SLUICEGATE_STEPS", log.join("steps"))).expect(3);
        let written = self.written(folder.path());
        let whole: Vec<u8> = written[..self.files.len()].concat();
        let whole = if self.more.contains("zstd") { zstd::stream::decode_all(&whole[..]).unwrap() } else { whole };
        let (ours, servers) = (String::from_utf8(whole).unwrap(), row_to_json(database(), "(SELECT * FROM t WHERE id % 499 <> 5)"));
        if self.is_ordered {
            assert_same(&ours, &servers);
        } else {
            assert_eq!(sorted(ours.as_bytes()), sorted(servers.as_bytes()));
        }
        assert_eq!(String::from_utf8_lossy(written.last().unwrap()).lines().count(), 10_000 / 499 + 1);
        (written, places(&log.read("steps")))
    }

    /// Goes on in `folder`, to the end, and says what is missing and what is too much.
    fn go_on(&self, folder: &Path, expected: &Written, place: &str, tally: &Tally) {
        let output = self.command(folder).stderr(Stdio::piped()).output().unwrap();
        if output.status.code() != Some(3) {
            return tally.wrong(format!("{place}: gone on with: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
        }
        tally.resumed.fetch_add(1, Ordering::Relaxed);
        let written = self.written(folder);
        for (number, (ours, theirs)) in written.iter().zip(expected).enumerate() {
            // Outputs that are written side by side share a dead letter, which is in order for each of them.
            let is_ordered = self.is_ordered && (self.files.len() == 1 || number + 1 < written.len());
            let is_same = if is_ordered { ours == theirs } else { sorted(ours) == sorted(theirs) };
            if !is_same {
                tally.differs(place, ours, theirs);
            }
        }
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let mut wanted = self.names();
        wanted.sort();
        // Killed when everything was said and done: then nobody opens the journal again to write.
        let is_at_rest = !place.contains("journal.end.after") && !place.contains("journal.rest");
        if names != wanted && is_at_rest {
            tally.wrong(format!("{place}: there is {names:?}"));
        }
        let journal = folder.join(self.beside("journal"));
        let audit = run([Path::new("inspect"), &journal, Path::new("audit")]);
        if audit.code != Some(0) {
            tally.wrong(format!("{place}: {}", audit.text()));
        }
    }

    /// An export that crashed when it came by `place` for so many times; for fewer if it did not come by as often, which depends on the
    /// moment.
    fn begun(&self, place: &str, times: u64) -> (Folder, Folder) {
        let crashed = |times| {
            let (folder, disk) = (Folder::new(), Folder::new());
            self.crashes(folder.path(), disk.path(), &format!("{place}:{times}")).then_some((folder, disk))
        };
        (1..=times).rev().find_map(crashed).expect("it comes by")
    }

    /// Whether it crashed: how often some places are reached depends on the moment, and a run may come to its end before.
    fn crashes(&self, folder: &Path, disk: &Path, place: &str) -> bool {
        let mut command = self.command(folder);
        let ended = command.env("SLUICEGATE_CRASH_AT", place).env("SLUICEGATE_DISK", disk).status().unwrap();
        assert!(ended.signal() == Some(6) || ended.code() == Some(3), "{place}: {ended}");
        ended.signal().is_some()
    }
}

/// Lines without order. Records of a dead letter without their numbers, which are in the order in which they came.
fn sorted(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').map(unnumbered).collect();
    lines.sort_unstable();
    lines
}

/// A record of a dead letter from behind its number, which comes first.
fn unnumbered(line: &[u8]) -> &[u8] {
    let behind = line.strip_prefix(b"{\"id\":").and_then(|rest| Some(&rest[rest.iter().position(|byte| *byte == b',')?..]));
    behind.filter(|rest| rest.starts_with(b",\"reason\":")).unwrap_or(line)
}

/// How often each place is in a list of steps.
fn places(steps: &str) -> BTreeMap<String, u64> {
    let mut places = BTreeMap::new();
    for name in steps.lines() {
        *places.entry(name.to_owned()).or_insert(0) += 1;
    }
    places
}

/// The first time, the second, one in the middle, the last.
fn occurrences(times: u64) -> Vec<u64> {
    let mut wanted = vec![1, 2.min(times), times.div_ceil(2), times];
    wanted.dedup();
    wanted
}

/// A database without an encoding, so that it can hold rows that are no text.
fn database() -> &'static Database<'static> {
    static DATABASE: OnceLock<Database<'static>> = OnceLock::new();
    DATABASE.get_or_init(|| {
        let database = Cluster::shared().fresh_database_with("TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'");
        let note = "CASE WHEN i % 499 = 5 THEN E'bad \\xff' || i ELSE 'good ' || i END";
        database
            .psql(&format!("CREATE TABLE t WITH (fillfactor = 20) AS SELECT i AS id, {note} AS note, repeat('x', 60) AS pad FROM generate_series(1, 10000) i; ALTER TABLE t ADD PRIMARY KEY (id)"));
        super::faults::settled(&database);
        database
    })
}

/// What came of all crashes.
#[derive(Default)]
struct Tally {
    crashes: AtomicUsize,
    resumed: AtomicUsize,
    lost: AtomicUsize,
    doubled: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

impl Tally {
    fn differs(&self, place: &str, ours: &[u8], theirs: &[u8]) {
        let mut rows: BTreeMap<&[u8], i64> = BTreeMap::new();
        for row in ours.split_inclusive(|byte| *byte == b'\n') {
            *rows.entry(row).or_default() += 1;
        }
        for row in theirs.split_inclusive(|byte| *byte == b'\n') {
            *rows.entry(row).or_default() -= 1;
        }
        let sum = |rows: &mut dyn Iterator<Item = i64>| usize::try_from(rows.sum::<i64>()).unwrap();
        let lost = sum(&mut rows.values().filter(|count| **count < 0).map(|count| -count));
        let more = sum(&mut rows.values().copied().filter(|count| *count > 0));
        self.lost.fetch_add(lost, Ordering::Relaxed);
        self.doubled.fetch_add(more, Ordering::Relaxed);
        self.wrong(format!("{place}: {} bytes instead of {}, rows: {lost} missing, {more} more", ours.len(), theirs.len()));
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    fn conclude(&self, what: &str, places: usize) {
        let count = |number: &AtomicUsize| number.load(Ordering::Relaxed);
        println!(
            "{what}: {places} places, {} crashes, {} times gone on with, {} rows lost, {} rows doubled",
            count(&self.crashes),
            count(&self.resumed),
            count(&self.lost),
            count(&self.doubled)
        );
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// Works on all of `items`, some at a time: the program waits for disk and server more than it computes.
fn side_by_side<T: Sync>(items: &[T], work: impl Fn(usize, &T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((number, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|number| Some((number, items.get(number)?)))
                {
                    work(number, item);
                }
            });
        }
    });
}

/// Crashes at each of `wanted` and goes on from what a killed process leaves, and from what a loss of power may leave: from both, or from
/// one and the other by turns.
fn crash_at(shape: &Shape, wanted: &[String], expected: &Written, by_turns: bool, random: &Random, tally: &Tally) {
    side_by_side(wanted, |number, place| {
        let (folder, disk) = (Folder::new(), Folder::new());
        if !shape.crashes(folder.path(), disk.path(), place) {
            return;
        }
        tally.crashes.fetch_add(1, Ordering::Relaxed);
        if !by_turns || number % 2 == 0 {
            let survives = if number % 4 < 2 { Survives::Some } else { Survives::Nothing };
            let after = power::loss(folder.path(), disk.path(), survives, &mut random.branch(number as u64));
            shape.go_on(after.path(), expected, &format!("{place}, power lost, {survives:?} survives"), tally);
        }
        if !by_turns || number % 2 == 1 {
            shape.go_on(folder.path(), expected, place, tally);
        }
    });
}

/// Every place with every occurrence.
fn all(places: &BTreeMap<String, u64>, occurrences: impl Fn(u64) -> Vec<u64>) -> Vec<String> {
    places.iter().flat_map(|(name, times)| occurrences(*times).into_iter().map(move |occurrence| format!("{name}:{occurrence}"))).collect()
}

#[test]
fn a_crash_at_every_place_costs_nothing() {
    let random = Random::seeded("a_crash_at_every_place_costs_nothing");
    let (expected, places) = PLAIN.undisturbed();
    // Each step of an export that begins anew and comes to its end, before and after.
    assert!(places.len() >= 46, "{} places: {places:?}", places.len());
    let tally = Tally::default();
    crash_at(&PLAIN, &all(&places, occurrences), &expected, false, &random, &tally);
    tally.conclude("crashes at every place", places.len());
}

/// The first and the last time, in other shapes of an export.
#[test]
fn crashes_in_other_shapes_cost_nothing() {
    let random = Random::seeded("crashes_in_other_shapes_cost_nothing");
    let shapes = [
        (ONE_WORKER, "one worker"),
        (PACKED, "zstd, four workers"),
        (BY_KEY, "by key"),
        (UNORDERED, "unordered"),
        (PARTS, "a file per lane"),
    ];
    for (shape, what) in shapes {
        let (expected, places) = shape.undisturbed();
        let tally = Tally::default();
        // Each place once: in the middle, or at the end.
        let wanted = all(&places, |times| vec![if times > 6 { times.div_ceil(2) } else { times }]);
        crash_at(&shape, &wanted, &expected, true, &random, &tally);
        tally.conclude(&format!("crashes, {what}"), places.len());
    }
}

/// Runs that go on, give up half-written ranges first, begin anew over what is there, or only have to give the output its name, crash too.
#[test]
fn crashes_while_going_on_cost_nothing() {
    let random = Random::seeded("crashes_while_going_on_cost_nothing");
    let tally = Tally::default();
    let mut count = 0;
    let anew = Shape { more: "--connections 2 --workers 2 --fresh", ..PLAIN };
    let runs = [
        (("output.sync.after", 5), PLAIN, PLAIN),
        (("output.rename.after", 1), PLAIN, PLAIN),
        (("output.sync.after", 8), PLAIN, anew),
        (("output.sync.after", 12), BY_KEY, BY_KEY),
    ];
    for ((first, times), begins, shape) in runs {
        let (expected, _) = begins.undisturbed();
        let (begun, _disk) = begins.begun(first, times);
        let (whole, log) = (power::copy(begun.path()).0, Folder::new());
        ran(shape.command(whole.path()).env("SLUICEGATE_STEPS", log.join("steps"))).expect(3);
        let places = places(&log.read("steps"));
        count += places.len();
        side_by_side(&all(&places, |times| vec![times.div_ceil(2)]), |number, place| {
            let (folder, disk) = power::copy(begun.path());
            if !shape.crashes(folder.path(), disk.path(), place) {
                return;
            }
            tally.crashes.fetch_add(1, Ordering::Relaxed);
            let place = format!("{first}, then {} {place}", shape.more);
            if number % 2 == 0 {
                let after = power::loss(folder.path(), disk.path(), Survives::Some, &mut random.branch(number as u64));
                begins.go_on(after.path(), &expected, &format!("{place}, power lost"), &tally);
            } else {
                begins.go_on(folder.path(), &expected, &place, &tally);
            }
        });
    }
    tally.conclude("crashes of runs that go on", count);
}
