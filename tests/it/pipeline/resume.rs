//! Killed and gone on with: the output is what an undisturbed run writes, or the program says why not.

use super::{command, folder, run, sound};
use crate::support::program::Folder;
use insta::assert_snapshot;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Settings under which things take a moment, in many chunks.
const SMALL: [&str; 3] = ["chunk.bytes=16KiB", "checkpoint.bytes=512KiB", "sink.buffered=true"];

fn csv() -> String {
    let mut text = String::from("id,name,pad\n");
    (0..60_000).for_each(|id| writeln!(text, "{id},\"name \"\"{id}\"\"\nof it\",{}", "x".repeat(id % 200)).unwrap());
    text
}

fn lines() -> String {
    let mut text = String::new();
    (0..60_000).for_each(|id| writeln!(text, "{{\"id\":{id},\"pad\":\"{}\"}}", "x".repeat(id % 200)).unwrap());
    text
}

/// Starts the pipeline and kills it (SIGKILL) when its output has so many bytes.
#[track_caller]
fn killed_at(folder: &Folder, to: &str, bytes: u64, settings: &[&str]) {
    let partial = folder.join(&format!("{to}.partial"));
    let mut child = command(folder, settings).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while partial.metadata().map_or(0, |file| file.len()) < bytes {
        assert_eq!(child.try_wait().unwrap(), None, "it ended before it could be killed");
        assert!(began.elapsed() < Duration::from_secs(60), "nothing comes");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_killed_pipeline_goes_on_byte_for_byte() {
    let cases = [("in.jsonl", "out.jsonl", lines()), ("in.csv", "out.jsonl", csv()), ("in.csv", "out.csv", csv())];
    for (from, to, text) in cases {
        let undisturbed = folder(from, to);
        std::fs::write(undisturbed.join(from), &text).unwrap();
        run(&undisturbed, &SMALL).expect(0);
        let expected = undisturbed.read(to);
        let folder = folder(from, to);
        std::fs::write(folder.join(from), &text).unwrap();
        killed_at(&folder, to, 3 << 20, &SMALL);
        killed_at(&folder, to, 5 << 20, &SMALL);
        // With other workers and readers than before.
        let settings = [&SMALL[..], &["workers=1", "source.readers=1"]].concat();
        run(&folder, &settings).expect(0);
        assert!(folder.read(to) == expected, "{from} -> {to}");
        sound(&folder, &format!("{to}.journal"));
        let again = run(&folder, &settings).expect(0);
        assert_eq!(again.stderr, "", "quiet, and nothing to do");
    }
}

#[test]
fn compressed_input_and_output_go_on_too() {
    let folder = folder("in.jsonl.zst", "out.jsonl.gz");
    let text = lines();
    std::fs::write(folder.join("in.jsonl.zst"), zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    killed_at(&folder, "out.jsonl.gz", 100 << 10, &SMALL);
    run(&folder, &SMALL).expect(0);
    let mut unpacked = String::new();
    let packed = std::fs::read(folder.join("out.jsonl.gz")).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(&packed[..]), &mut unpacked).unwrap();
    assert!(unpacked == text);
    sound(&folder, "out.jsonl.gz.journal");
}

#[test]
fn an_input_that_changed_is_not_gone_on_with() {
    let folder = folder("in.jsonl", "out.jsonl");
    let text = lines();
    std::fs::write(folder.join("in.jsonl"), &text).unwrap();
    killed_at(&folder, "out.jsonl", 2 << 20, &SMALL);
    std::fs::write(folder.join("in.jsonl"), text + "{}\n").unwrap();
    let refused = run(&folder, &SMALL).expect(78).stderr;
    assert!(refused.contains("cut.inputs[0].stamp.bytes: was "), "{refused}");
    let refused = run(&folder, &["sink.buffered=true", "processors=[{type: drop, names: [pad]}]"]).expect(78).stderr;
    assert!(refused.contains("identity.processors"), "{refused}");
    std::fs::remove_file(folder.join("in.jsonl")).unwrap();
    assert_snapshot!(run(&folder, &SMALL).expect(74).stderr, @r"
    error: in.jsonl: is not there
      because: No such file or directory (os error 2)
    ");
    std::fs::write(folder.join("in.jsonl"), "{}\n").unwrap();
    super::ran(command(&folder, &SMALL).arg("--fresh")).expect(0);
    assert_eq!(folder.read("out.jsonl"), "{}\n");
}

/// A file that changes while it is read: the output blocks until it has.
#[test]
fn an_input_that_changes_while_it_is_read_is_noticed() {
    for (told, by) in [("it grew from", 1), ("it shrank from", -1)] {
        let folder = folder("in.jsonl", "pipe");
        let text = lines();
        std::fs::write(folder.join("in.jsonl"), &text).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("pipe"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let mut command = command(&folder, &["sink.format=jsonl", "memory_limit=8MiB", "workers=1", "source.readers=1"]);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = std::fs::File::open(folder.join("pipe")).unwrap();
        let mut first = [0; 1];
        std::io::Read::read_exact(&mut pipe, &mut first).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(folder.join("in.jsonl")).unwrap();
        file.set_len((text.len() as u64).wrapping_add_signed(by)).unwrap();
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        let ended = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(78), "{stderr}");
        assert!(stderr.contains("in.jsonl is changing while it is read") && stderr.contains(told), "{stderr}");
    }
}
