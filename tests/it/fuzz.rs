//! The fuzz targets, bounded: every seed of the corpus, and a few thousand mutations of each kind. `fuzz/README.md` says how to go on.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// Seeds of the random numbers that once failed: target and seed.
const REGRESSIONS: &[(&str, u64)] = &[];

/// Numbers drawn from a seed (SplitMix64 by Steele, Lea and Flood).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// What is worth putting anywhere.
const MORSELS: &[&[u8]] = &[
    b"\\",
    b"\"",
    b"\n",
    b"\t",
    b"\0",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b"'",
    b"%",
    b"\\N",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551616",
    b"null",
    b"{\"a\":1}",
    b"[[[[[[[[",
    b"\xf0\x9f\x98\x80",
    b"always",
    b"$context",
    b"service=",
    b"${A:-",
    b"- {",
    b"sink.path=",
];

/// One of the corpus, changed in one to eight places.
fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut data = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(8) {
        let at = random.below(data.len() + 1);
        let end = (at + 1 + random.below(16)).min(data.len());
        match random.below(6) {
            0 if at < data.len() => data[at] ^= 1 << random.below(8),
            1 => drop(data.drain(at.min(end)..end)),
            2 => drop(data.splice(at..at, data[at.min(end)..end].to_vec())),
            3 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                let piece = other[from..(from + 1 + random.below(64)).min(other.len())].to_vec();
                drop(data.splice(at..end.max(at), piece));
            }
            4 if at < data.len() => data[at] = random.next() as u8,
            _ => drop(data.splice(at..at, MORSELS[random.below(MORSELS.len())].iter().copied())),
        }
    }
    data
}

fn attempt(target: &str, run: fn(&[u8]), name: &str, data: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(data))) {
        let mut hex = String::new();
        data.iter().for_each(|byte| write!(hex, "{byte:02x}").expect("room"));
        println!("fuzz target {target}, {name}: {:?}\nas hexadecimal: {hex}", String::from_utf8_lossy(data));
        resume_unwind(panic);
    }
}

/// Every seed of the corpus, and `count` mutations.
fn bounded(target: &str, run: fn(&[u8]), count: u64) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).expect("a corpus").map(|file| file.expect("a file").path()).collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("a seed")).collect();
    for (file, data) in files.iter().zip(&corpus) {
        attempt(target, run, &file.display().to_string(), data);
    }
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let first = Random(time.as_micros() as u64).next() >> 16;
    println!("seeds {first} to {}", first + count - 1);
    let known = REGRESSIONS.iter().filter(|(name, _)| *name == target).map(|(_, seed)| *seed);
    for seed in known.chain(first..first + count) {
        attempt(target, run, &format!("seed {seed}"), &mutated(&corpus, &mut Random(seed)));
    }
}

#[test]
fn no_definition_makes_it_panic() {
    bounded("definition", targets::definition, 3000);
}

#[test]
fn rows_become_what_a_slow_reading_makes_of_them() {
    bounded("copy_text", targets::copy_text, 20_000);
}

#[test]
fn no_file_taken_for_a_journal_makes_it_panic() {
    bounded("journal", targets::journal, 200);
}

#[test]
fn no_words_make_it_panic() {
    bounded("words", targets::words, 3000);
}

#[test]
fn no_pipeline_file_makes_it_panic() {
    bounded("pipeline", targets::pipeline, 3000);
}

#[test]
fn no_message_of_a_server_makes_it_panic() {
    bounded("wire", targets::wire, 20_000);
}
