//! Is the table still what was read of it? Every range is read again, as the journal says it was cut, and compared piece by piece.

use super::super::args::VerifyArgs;
use super::super::exit::Failure;
use super::super::export::{compare_servers, heap_files};
use super::super::job::resume::{compare, limits};
use super::super::values::show_count;
use crate::batch::Batch;
use crate::budget::{Budget, MemoryBand};
use crate::chunk::Payload;
use crate::cli::out::outln;
use crate::clock::Clock;
use crate::export::Settings;
use crate::journal::sqlite::pieces::Piece;
use crate::journal::sqlite::query::{Reader, RunRow};
use crate::source::postgres::{ConnInfo, Connector, CopySource, Cut, Export, KeyChoice, NamePattern, Request, RowSecurity, Session};
use crate::source::{Lane, Read, Source, Stop};
use crate::trouble::Trouble;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For how long a server in passing trouble is tried again, and how often.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN_EVERY: Duration = Duration::from_millis(500);

/// More differences than this are counted, but not described.
const MOST_DIFFERENCES: usize = 100;

/// Differences of identity that a person sees at most.
const SHOWN_DIFFERENCES: usize = 8;

/// What was compared, and what was found.
#[derive(Debug, Default, Serialize)]
pub struct Compared {
    /// Ranges that were read again.
    ranges: u64,
    /// Rows that they had when they were exported.
    rows_then: u64,
    /// Rows that they have.
    rows_now: u64,
    /// How many of them are not as they were.
    differing: u64,
    /// These, in order.
    differences: Vec<Difference>,
    /// The snapshot that they were read under now. None by key.
    snapshot: Option<Value>,
}

/// A range that is not as it was.
#[derive(Debug, Serialize)]
struct Difference {
    range: u32,
    origin: String,
    rows_then: u64,
    rows_now: u64,
    /// Where the first difference is: everything of the range before this chunk is as it was.
    first_chunk: String,
}

impl Compared {
    /// Whether everything is as it was read.
    pub fn is_same(&self) -> bool {
        self.differing == 0
    }

    fn add(&mut self, other: Compared) {
        self.ranges += other.ranges;
        self.rows_then += other.rows_then;
        self.rows_now += other.rows_now;
        self.differing += other.differing;
        self.differences.extend(other.differences);
    }

    /// Takes a range in that was read again.
    fn range(&mut self, range: u32, origin: &str, then: &[Piece], now: &[Piece]) {
        let rows = |pieces: &[Piece]| pieces.iter().map(|piece| piece.rows).sum::<u64>();
        let (rows_then, rows_now) = (rows(then), rows(now));
        self.ranges += 1;
        self.rows_then += rows_then;
        self.rows_now += rows_now;
        let same = then.iter().zip(now).take_while(|(then, now)| then.equals(now)).count();
        if same == then.len() && same == now.len() {
            return;
        }
        self.differing += 1;
        if self.differences.len() < MOST_DIFFERENCES {
            let first_chunk = format!("{range}.{same}");
            self.differences.push(Difference { range, origin: origin.to_owned(), rows_then, rows_now, first_chunk });
        }
    }

    /// Prints it for people.
    pub fn print(&self) {
        for Difference { origin, rows_then, rows_now, first_chunk, .. } in &self.differences {
            let rows = if rows_then == rows_now {
                format!("{} rows as then, but not the same", show_count(*rows_now))
            } else {
                format!("{} rows then, {} now", show_count(*rows_then), show_count(*rows_now))
            };
            outln!("{origin}: {rows}; the first difference is in chunk {first_chunk}");
        }
        let more = self.differing - self.differences.len() as u64;
        if more > 0 {
            outln!("and {} ranges more", show_count(more));
        }
        let (ranges, then, now) = (show_count(self.ranges), show_count(self.rows_then), show_count(self.rows_now));
        let moment = match &self.snapshot {
            Some(snapshot) => format!(" at {}", snapshot["lsn"].as_str().unwrap_or("an unknown position")),
            None => ", each at a moment of its own".to_owned(),
        };
        outln!("{ranges} ranges read again{moment}: {then} rows then, {now} now; ranges that differ: {}", show_count(self.differing));
        outln!("{}", if self.is_same() { "as in the source" } else { "NOT AS IN THE SOURCE" });
    }
}

/// Reads what `run` and those before it have read of the source, and compares.
///
/// # Errors
/// When the plan cannot be read again, the server cannot be reached, or is another, or the table is.
pub fn compare_with(args: &VerifyArgs, reader: &Reader, run: &RunRow) -> Result<Compared, Failure> {
    let cut = cut_of(run)?;
    let info = ConnInfo::parse(&args.from).map_err(|error| Failure::configuration(error.to_string()))?;
    let connector = Connector::new(info).map_err(|error| Failure::configuration(error.to_string()))?;
    let mut session = Session::open(&connector, RowSecurity::Refuse)?;
    let export = same_table(&mut session, run, cut)?;
    let snapshot = (!export.is_by_key()).then(|| json!(session.snapshot()));
    if export.is_by_key() {
        session.release()?;
    }
    let mut settings = Settings { limits: limits(run), ..Settings::default() };
    settings.connections = args.connections.map_or(settings.connections, usize::from);
    let read: HashSet<u32> = reader.ranges_read()?.into_iter().collect();
    let unread = export.ranges.iter().map(|range| range.number).filter(|range| !read.contains(range)).collect::<Vec<_>>();
    let mut source = CopySource::new(&session, Arc::new(export), settings.limits, settings.connections);
    source = source.without(unread, std::collections::HashMap::new());
    let limit = settings.memory_limit.max(settings.memory_floor());
    let budget = Budget::new(MemoryBand::under(limit), usize::MAX, Clock::real());
    let lanes = source.lanes(&budget)?;
    let mut compared = read_again(lanes, &budget, &args.journal)?;
    compared.snapshot = snapshot;
    Ok(compared)
}

/// How the table was cut into ranges, if it was.
fn cut_of(run: &RunRow) -> Result<Cut, Failure> {
    let cannot = |why: String| {
        let message = format!("{} cannot be compared with its source: {why}", run.target);
        Err(Failure::configuration(message).advise("Without --against-source, the output alone is verified."))
    };
    match run.plan["read"]["mode"].as_str() {
        Some("pages" | "keyset") => match serde_json::from_value(run.plan["cut"].clone()) {
            Ok(cut) => Ok(cut),
            Err(_) => cannot("its journal does not say how the table was cut".into()),
        },
        Some("one_lane") => {
            let reason = run.plan["read"]["reason"].as_str().unwrap_or("unknown");
            cannot(format!("it was read by one statement ({reason}), whose rows have no fixed order"))
        }
        mode => cannot(format!("this program does not know how to read a plan of mode `{}` again", mode.unwrap_or("unknown"))),
    }
}

/// The table, if it and its server are the ones that were read, cut as it was then.
fn same_table(session: &mut Session, run: &RunRow, cut: Cut) -> Result<Export, Failure> {
    let refuse_if_another = |differences: Vec<String>| {
        if differences.is_empty() {
            return Ok(());
        }
        let shown: String = differences.iter().take(SHOWN_DIFFERENCES).map(|line| format!("\n  {line}")).collect();
        let message = format!("what is there is not what {} was read from:{shown}", run.target);
        Err(Failure::configuration(message).advise("If that is elsewhere, say where: --from CONNINFO."))
    };
    let mut server = Vec::new();
    compare_servers(&run.source["facts"], session.server(), cut.key().is_some(), &mut server);
    refuse_if_another(server)?;
    let identity = &run.settings["identity"];
    let names = identity["columns"].as_array().map(|names| names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect());
    let filter = identity["filter"].as_str().map(str::to_owned);
    let key = cut.key().map(|key| KeyChoice { columns: Some(key.columns.clone()) });
    let request = Request { columns: names, filter, parts: cut.parts(), key, ..Request::default() };
    let name = identity["table"].as_str().unwrap_or_default();
    // Only tables of `public` are called by their name alone.
    let is_bare = NamePattern::parse(name).is_ok_and(|pattern| pattern.schema.is_none());
    let mut export = Export::outline_table(session, &if is_bare { format!("public.{name}") } else { name.to_owned() }, &request)?;
    let mut table = Vec::new();
    compare("identity", identity, &export.identity, &mut table);
    compare("heaps", &heap_files(&run.plan["cut"]), &heap_files(&json!(export.cut)), &mut table);
    refuse_if_another(table)?;
    export.cut_as(cut);
    Ok(export)
}

/// Reads on all lanes at once. Each lane has a look into the journal of its own.
fn read_again(lanes: Vec<Box<dyn Lane<Batch>>>, budget: &Budget, journal: &Path) -> Result<Compared, Trouble> {
    let stop = Stop::default();
    let read = |lane: Box<dyn Lane<Batch>>| {
        let compared = Reader::open(journal).and_then(|reader| read_lane(lane, budget, &stop, &reader));
        // One that fails is the end of all.
        if compared.is_err() {
            stop.now();
            budget.close();
        }
        compared
    };
    let compared = std::thread::scope(|scope| {
        let threads: Vec<_> = lanes.into_iter().map(|lane| scope.spawn(|| read(lane))).collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.collect::<Vec<Result<Compared, Trouble>>>()
    });
    let mut all = Compared::default();
    for compared in compared {
        all.add(compared?);
    }
    all.differences.sort_by_key(|difference| difference.range);
    all.differences.truncate(MOST_DIFFERENCES);
    Ok(all)
}

fn read_lane(mut lane: Box<dyn Lane<Batch>>, budget: &Budget, stop: &Stop, reader: &Reader) -> Result<Compared, Trouble> {
    let mut compared = Compared::default();
    let mut now = Vec::new();
    let mut since = None;
    loop {
        let read = match lane.read(budget, stop) {
            Err(trouble) if trouble.is_passing() && since.get_or_insert_with(Instant::now).elapsed() < PATIENCE => {
                tracing::warn!("will try again: {}", trouble.chain());
                std::thread::sleep(AGAIN_EVERY);
                continue;
            }
            read => read?,
        };
        since = None;
        match read {
            Read::Chunk(chunk) => {
                now.push(Piece { rows: chunk.payload.rows(), bytes: chunk.payload.bytes() as u64, digest: chunk.payload.digest() });
            }
            Read::RangeDone(done) => {
                compared.range(done.range, &done.origin, &reader.pieces(done.range)?, &now);
                now.clear();
            }
            Read::End | Read::Stopped => return Ok(compared),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_differs_where_a_piece_does_or_is_missing() {
        let piece = |rows, digest| Piece { rows, bytes: rows * 10, digest: Some(digest) };
        let then = [piece(5, 1), piece(6, 2)];
        let first = |now: &[Piece]| {
            let mut compared = Compared::default();
            compared.range(3, "t pages 0-9", &then, now);
            compared.differences.pop().map(|difference| (difference.rows_then, difference.rows_now, difference.first_chunk))
        };
        assert_eq!(first(&then), None);
        assert_eq!(first(&[piece(5, 1), piece(6, 9)]), Some((11, 11, "3.1".into())));
        assert_eq!(first(&[piece(4, 9), piece(6, 2)]), Some((11, 10, "3.0".into())));
        assert_eq!(first(&then[..1]), Some((11, 5, "3.1".into())));
        assert_eq!(first(&[then[0], then[1], piece(1, 3)]), Some((11, 12, "3.2".into())));
        assert_eq!(first(&[]), Some((11, 0, "3.0".into())));
    }
}
