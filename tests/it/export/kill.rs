//! Killed and stopped, from outside and at moments that nobody chose: the same command comes to the bytes of an undisturbed run.

use super::assert_same;
use super::faults::{settled, until};
use crate::support::cluster::{Cluster, Database};
use crate::support::program::{Folder, export, ran, row_to_json, run};
use crate::support::random::Random;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn command(database: &Database<'_>, folder: &Folder, more: &str) -> Command {
    let to = folder.text("out.jsonl");
    let mut command = export(database, &format!("--table t --to {to} --quiet --chunk-bytes 16KiB --checkpoint-bytes 128KiB {more}"));
    command.stderr(Stdio::null());
    command
}

/// A table of about 6 MB in four ranges.
fn database() -> Database<'static> {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 10) AS pad FROM generate_series(10001, 26000) i");
    settled(&database);
    database
}

fn unpacked(bytes: &[u8], more: &str) -> String {
    let mut text = String::new();
    let read = |from: &mut dyn std::io::Read, text: &mut String| from.read_to_string(text).unwrap();
    if more.contains("gzip") {
        read(&mut flate2::read::MultiGzDecoder::new(bytes), &mut text);
    } else if more.contains("zstd") {
        read(&mut zstd::stream::read::Decoder::new(bytes).unwrap(), &mut text);
    } else {
        text = String::from_utf8(bytes.to_vec()).unwrap();
    }
    text
}

/// What an undisturbed run of this kind writes, which is what the server says.
fn undisturbed(database: &Database<'_>, more: &str) -> Vec<u8> {
    let folder = Folder::new();
    ran(&mut command(database, &folder, more)).expect(0);
    let bytes = std::fs::read(folder.join("out.jsonl")).unwrap();
    assert_same(&unpacked(&bytes, more), &row_to_json(database, "t"));
    bytes
}

/// One worker and four, plain and compressed, SIGKILL and SIGTERM twice.
#[test]
fn killed_and_stopped_in_every_shape() {
    let database = database();
    let mut counted = 0;
    for lanes in ["--connections 1 --workers 1", "--connections 4 --workers 4"] {
        for method in ["none", "gzip:1", "zstd:1"] {
            let more = format!("{lanes} --compress {method} --buffered");
            let expected = undisturbed(&database, &more);
            for signals in [&[Signal::KILL][..], &[Signal::TERM], &[Signal::TERM, Signal::TERM]] {
                let folder = Folder::new();
                let mut child = command(&database, &folder, &more).spawn().unwrap();
                until("a third of the output", || {
                    assert_eq!(child.try_wait().unwrap(), None, "{more}: it ended before it could be stopped");
                    folder.join("out.jsonl.partial").metadata().is_ok_and(|file| file.len() > expected.len() as u64 / 3)
                });
                for signal in signals {
                    kill_process(Pid::from_child(&child), *signal).unwrap();
                }
                let code = child.wait().unwrap().code();
                assert_eq!(code, if signals == [Signal::KILL] { None } else { Some(75) }, "{more}");
                assert!(!folder.join("out.jsonl").exists(), "{more}: it was complete before it was stopped");
                ran(&mut command(&database, &folder, &more)).expect(0);
                let same = std::fs::read(folder.join("out.jsonl")).unwrap() == expected;
                assert!(same, "{more}, {signals:?}: the output is another");
                run(["inspect", &folder.text("out.jsonl.journal"), "audit"]).expect(0);
                counted += 1;
            }
        }
    }
    assert_eq!(counted, 18);
}

/// When a kill came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before anything was durable.
    Beginning,
    /// With some chunks durable.
    Middle,
    /// When the output was about to get its final name, or had it.
    Finishing,
}

/// By what is on disk. On copies, so that what is looked at stays as it is.
fn phase(folder: &Folder) -> Phase {
    let copy = Folder::new();
    for name in folder.names().iter().filter(|name| name.contains("journal")) {
        std::fs::copy(folder.join(name), copy.join(name)).unwrap();
    }
    let has = |question: &str| {
        let journal = rusqlite::Connection::open(copy.join("out.jsonl.journal"));
        journal.and_then(|journal| journal.query_row(question, [], |row| row.get::<_, bool>(0))).unwrap_or(false)
    };
    if folder.join("out.jsonl").exists() || has("SELECT phase IN ('finishing', 'complete') FROM runs ORDER BY run DESC LIMIT 1") {
        Phase::Finishing
    } else if has("SELECT count(*) > 0 FROM checkpoints") {
        Phase::Middle
    } else {
        Phase::Beginning
    }
}

/// Waits for a random while, or until most is written and a little longer. Whether the child was still there to be killed.
fn kill_at_random(child: &mut Child, folder: &Folder, whole: u64, takes: Duration, random: &mut Random) -> bool {
    let takes = u64::try_from(takes.as_micros()).unwrap();
    if random.below(3) == 0 {
        let enough = whole - random.below(whole / 10);
        let is_written = || folder.join("out.jsonl.partial").metadata().is_ok_and(|file| file.len() >= enough);
        while child.try_wait().unwrap().is_none() && !is_written() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(random.below(takes / 8)));
    } else {
        // More often early than late, so that one export is killed many times.
        let longest = 1 + random.below(takes);
        std::thread::sleep(Duration::from_micros(random.below(longest)));
    }
    child.kill().unwrap();
    child.wait().unwrap().code().is_none()
}

/// One export after the other, each killed again and again until it comes to its end; 200 kills in all.
#[test]
fn two_hundred_kills_cost_nothing() {
    const KILLS: usize = 200;
    let began = Instant::now();
    let database = database();
    let random = Random::seeded("two_hundred_kills_cost_nothing");
    let shapes = [
        "--connections 1 --workers 1 --buffered",
        "--connections 4 --workers 4 --buffered",
        "--connections 2 --compress zstd:1 --buffered",
    ];
    let start = Instant::now();
    let expected: Vec<Vec<u8>> = shapes.iter().map(|more| undisturbed(&database, more)).collect();
    let takes = start.elapsed() / 3;
    let (kills, exports, most) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let phases = [const { AtomicUsize::new(0) }; 3];
    let work = || {
        while kills.load(Ordering::SeqCst) < KILLS {
            let number = exports.fetch_add(1, Ordering::SeqCst);
            let (more, expected) = (shapes[number % shapes.len()], &expected[number % shapes.len()]);
            let mut random = random.branch(number as u64);
            let folder = Folder::new();
            let mut own = 0;
            while kills.load(Ordering::SeqCst) < KILLS {
                let mut child = command(&database, &folder, more).spawn().unwrap();
                if !kill_at_random(&mut child, &folder, expected.len() as u64, takes, &mut random) {
                    break;
                }
                kills.fetch_add(1, Ordering::SeqCst);
                own += 1;
                phases[phase(&folder) as usize].fetch_add(1, Ordering::SeqCst);
            }
            most.fetch_max(own, Ordering::SeqCst);
            compare(&database, &folder, more, expected);
        }
    };
    std::thread::scope(|scope| [(); 3].map(|()| scope.spawn(work)).map(|worker| worker.join().unwrap()));
    let count = |phase: Phase| phases[phase as usize].load(Ordering::SeqCst);
    println!(
        "{} kills of {} exports (one of them {} times), {} before the first checkpoint, {} in the middle, {} at the end, in {:.0} s: \
         0 rows lost, 0 rows doubled",
        kills.load(Ordering::SeqCst),
        exports.load(Ordering::SeqCst),
        most.load(Ordering::SeqCst),
        count(Phase::Beginning),
        count(Phase::Middle),
        count(Phase::Finishing),
        began.elapsed().as_secs_f64()
    );
    assert!([Phase::Beginning, Phase::Middle, Phase::Finishing].map(count).iter().all(|count| *count > 0), "a phase was never met");
}

/// Comes to the end, and compares.
fn compare(database: &Database<'_>, folder: &Folder, more: &str, expected: &[u8]) {
    ran(command(database, folder, more).stderr(Stdio::piped())).expect(0);
    let bytes = std::fs::read(folder.join("out.jsonl")).unwrap();
    if bytes != expected {
        assert_same(&unpacked(&bytes, more), &unpacked(expected, more));
        panic!("{more}: the same lines, packed otherwise");
    }
    let audit = run([Path::new("inspect"), &folder.join("out.jsonl.journal"), Path::new("audit")]).expect(0);
    assert!(audit.text().ends_with("sound\n"), "{}", audit.text());
}
