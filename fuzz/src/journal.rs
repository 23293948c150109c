//! Files that are no journals, or were.

use super::scratch;
use sluicegate::clock::Clock;
use sluicegate::journal::sqlite::query::TransitionFilter;
use sluicegate::journal::sqlite::recover::Earlier;
use sluicegate::journal::sqlite::{Audit, Reader, RunRecord, SqliteJournal, verify};
use sluicegate::{Delivery, Done, Orchestrator, Trouble, Work, definitions, sink, source};
use std::path::Path;
use std::sync::OnceLock;

/// Edits of a sound journal: two bytes that say how many pages of 4 KiB are kept (none: all), then for each edit four bytes of place (the
/// high bit: from the end), one of length, and so many bytes.
pub fn journal(data: &[u8]) {
    let path = scratch("journal");
    std::fs::write(&path, edited(data)).expect("the temporary directory can be written");
    let _ = read(&path).map_err(|trouble| trouble.chain());
    let _ = Earlier::read(&path, &["xstate.done.actor.sink".to_owned()])
        .map(|earlier| earlier.map(|earlier| drop((earlier.carried(), earlier.ended()))));
    for beside in ["", "-wal", "-shm", "-journal"] {
        let _ = std::fs::remove_file(format!("{}{beside}", path.display()));
    }
}

fn edited(data: &[u8]) -> Vec<u8> {
    let mut file = sound().to_vec();
    let Some((pages, mut edits)) = data.split_first_chunk::<2>() else { return data.to_vec() };
    let pages = usize::from(u16::from_le_bytes(*pages)) % 64;
    if pages > 0 {
        file.truncate(pages * 4096);
    }
    while let Some((&[a, b, c, d, length], rest)) = edits.split_first_chunk() {
        let (bytes, behind) = rest.split_at(usize::from(length).min(rest.len()));
        let place = u32::from_le_bytes([a, b, c, d]) as usize % file.len();
        let room = bytes.len().min(file.len() - place);
        file[place..place + room].copy_from_slice(&bytes[..room]);
        edits = behind;
    }
    file
}

/// Everything that can be asked of a journal.
fn read(path: &Path) -> Result<(), Trouble> {
    let Some(reader) = Reader::open_unless_empty(path)? else { return Ok(()) };
    let filter = TransitionFilter { since: Some(1), ..TransitionFilter::default() };
    let _ = (reader.runs(), reader.states(), reader.ranges(), reader.slowest(5), reader.errors(5), reader.chunks(None));
    let _ = (reader.transitions(&filter), reader.range_sums(), reader.run_transitions(1), reader.state_figures(), reader.edge_counts());
    let _ = (reader.chunk(sluicegate::ChunkId::new(0, 1)), reader.walk(sluicegate::ChunkId::new(0, 1)));
    let _ = Audit::of(&reader);
    let _ = verify::outputs(&reader, &[path.to_owned()]);
    Ok(())
}

/// The journal of a small run, in which a chunk fails.
fn sound() -> &'static [u8] {
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    SOUND.get_or_init(|| {
        let path = scratch("sound");
        let journal = SqliteJournal::open(&path, 0o600, RunRecord::new("fuzz"), Clock::manual()).expect("a journal");
        let run = Orchestrator::new(definitions::direct()).journal(journal).clock(Clock::manual()).workers(1);
        let run = run.source(source::items(["one\n", "two\nlines\n", "three\n"].map(String::from)));
        let run = run.handler("transform", |_: &Work<String>| Ok(Done::same()));
        let report = run.sink("sink", sink::each(|_: &Delivery<String>| Ok(()))).run();
        let _ = report.unwrap_or_else(|error| panic!("{error}"));
        let bytes = std::fs::read(&path).expect("the journal");
        let _ = std::fs::remove_file(&path);
        bytes
    })
}
