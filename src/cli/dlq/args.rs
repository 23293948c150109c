//! What the command line of `sluicegate dlq` looks like.

use crate::chunk::ChunkId;
use crate::cli::args::{Format, ListFormat, mode};
use crate::sink::IdSet;
use crate::source::postgres::{Charset, Compression};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DlqArgs {
    #[command(subcommand)]
    pub command: DlqCommand,
}

const EXAMPLES: &str = "Examples:
  sluicegate dlq list orders.jsonl.dead.jsonl --summary
  sluicegate dlq show orders.jsonl.dead.jsonl 7 --encoding latin1
  sluicegate dlq replay orders.jsonl.dead.jsonl --reason 'not UTF-8' --encoding latin1 --to orders.fixed.jsonl
  sluicegate dlq drop orders.jsonl.dead.jsonl --replayed --yes";

#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// One line for each record: which row, why, and whether it was replayed.
    List(ListArgs),
    /// Everything about single records, with the row's columns.
    Show(ShowArgs),
    /// Run rows through their machine again, and mark those that get through.
    Replay(Box<ReplayArgs>),
    /// Remove records.
    Drop(DropArgs),
}

#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub struct ListArgs {
    /// The dead-letter file.
    pub file: PathBuf,

    /// Only records with this in their reason.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,

    /// Only of this chunk, like 12.3.
    #[arg(long, value_name = "ID")]
    pub chunk: Option<ChunkId>,

    /// Only those that have not been replayed.
    #[arg(long, conflicts_with = "replayed")]
    pub pending: bool,

    /// Only those that have been.
    #[arg(long)]
    pub replayed: bool,

    /// Count them by their reason instead.
    #[arg(long)]
    pub summary: bool,

    /// How they are printed.
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,

    /// The journal of the run that set them aside [default: beside the file]. It tells the time.
    #[arg(long, value_name = "PATH")]
    pub journal: Option<PathBuf>,
}

const LIST_EXAMPLES: &str = "Examples:
  sluicegate dlq list orders.jsonl.dead.jsonl
  sluicegate dlq list orders.jsonl.dead.jsonl --pending --reason UTF-8 --format jsonl | jq .id
  sluicegate dlq list orders.jsonl.dead.jsonl --summary";

#[derive(Debug, Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub struct ShowArgs {
    /// The dead-letter file.
    pub file: PathBuf,

    /// Which records, by their numbers, like 7, 3-9 or 1,4-6.
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<IdSet>,

    /// Show rows that are not UTF-8 as text in this encoding, as Postgres or the Encoding Standard calls it.
    #[arg(long, value_name = "NAME", value_parser = charset)]
    pub encoding: Option<Charset>,

    /// Nothing but the rows, byte for byte, each with a line feed behind it.
    #[arg(long, conflicts_with_all = ["format", "encoding"])]
    pub raw: bool,

    /// How they are printed.
    #[arg(long, value_enum, default_value_t = ListFormat::Table)]
    pub format: ListFormat,

    /// The journal of the run that set them aside [default: beside the file]. It tells the columns and the time.
    #[arg(long, value_name = "PATH")]
    pub journal: Option<PathBuf>,
}

const SHOW_EXAMPLES: &str = "Examples:
  sluicegate dlq show orders.jsonl.dead.jsonl 7
  sluicegate dlq show orders.jsonl.dead.jsonl 1-20 --encoding latin1
  sluicegate dlq show orders.jsonl.dead.jsonl 7 --raw > row";

/// Which records. At least one of these, so that nobody means all by mistake.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct SelectArgs {
    /// Records, by their numbers, like 7, 3-9 or 1,4-6.
    #[arg(value_name = "ID")]
    pub ids: Vec<IdSet>,

    /// All.
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,

    /// Only records with this in their reason.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,

    /// Only of this chunk, like 12.3.
    #[arg(long, value_name = "ID")]
    pub chunk: Option<ChunkId>,

    /// Only those that have not been replayed.
    #[arg(long, conflicts_with = "replayed")]
    pub pending: bool,

    /// Only those that have been.
    #[arg(long)]
    pub replayed: bool,
}

#[derive(Debug, Args)]
#[command(after_help = REPLAY_EXAMPLES)]
pub struct ReplayArgs {
    /// The dead-letter file.
    pub file: PathBuf,

    #[command(flatten)]
    pub select: SelectArgs,

    /// Where rows go that get through. A file of its own: it gets a journal, and a dead letter for those that fail again.
    #[arg(long, value_name = "PATH")]
    pub to: PathBuf,

    /// What rows are in that are not UTF-8, as Postgres or the Encoding Standard calls it: LATIN1, windows-1252, KOI8R, …
    #[arg(long, value_name = "NAME", value_parser = charset)]
    pub encoding: Option<Charset>,

    /// The lifecycle of a chunk [default: the one in the journal].
    #[arg(long, value_name = "FILE")]
    pub definition: Option<PathBuf>,

    /// The journal of the run that set them aside [default: beside the file].
    #[arg(long, value_name = "PATH")]
    pub journal: Option<PathBuf>,

    /// Compress: none, gzip, zstd, or with a level, like zstd:9 [default: by the output's extension].
    #[arg(long, value_name = "METHOD", value_parser = crate::source::postgres::Compression::parse)]
    pub compress: Option<Compression>,

    /// Permissions of new files, in octal, whatever the umask is.
    #[arg(long, value_name = "MODE", value_parser = mode, default_value = "600")]
    pub mode: u32,

    /// Print nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,

    /// The report at the end: text on standard error, or JSON on standard output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub report: Format,
}

const REPLAY_EXAMPLES: &str = "Examples:
  sluicegate dlq replay orders.jsonl.dead.jsonl --all --encoding latin1 --to orders.fixed.jsonl
  sluicegate dlq replay orders.jsonl.dead.jsonl 7 9-12 --definition patient.json --to orders.again.jsonl

Rows that get through are marked and not replayed again; those that fail again stay pending. A replay that was cut off begins
anew with the same command; one that was complete but for its marks gets them.

Exit codes: 0 all got through or none was pending, 3 some failed again, 74 I/O error, 75 stopped, 78 cannot be replayed.";

#[derive(Debug, Args)]
#[command(after_help = DROP_EXAMPLES)]
pub struct DropArgs {
    /// The dead-letter file.
    pub file: PathBuf,

    #[command(flatten)]
    pub select: SelectArgs,

    /// Write them to this new file first.
    #[arg(long, value_name = "PATH")]
    pub to: Option<PathBuf>,

    /// Do not ask.
    #[arg(long)]
    pub yes: bool,

    /// The journal of the run that set them aside [default: beside the file]. It tells whether that run is complete.
    #[arg(long, value_name = "PATH")]
    pub journal: Option<PathBuf>,
}

const DROP_EXAMPLES: &str = "Examples:
  sluicegate dlq drop orders.jsonl.dead.jsonl 7 9-12
  sluicegate dlq drop orders.jsonl.dead.jsonl --replayed --yes
  sluicegate dlq drop orders.jsonl.dead.jsonl --all --to archive/orders.dead.jsonl --yes

Without --yes it asks, unless every record is named by its number. Other records keep their numbers.";

fn charset(name: &str) -> Result<Charset, String> {
    Charset::named(name).map_err(|error| error.to_string())
}
