//! What the command line looks like.

use super::dlq::args::DlqArgs;
use super::progress::When;
use super::values::{duration, size};
use crate::chunk::ChunkId;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;
use std::time::Duration;

/// `{n}` as people should read it. The help printer would take it for a line break; what breaks that up prints as nothing.
macro_rules! lane_number {
    () => {
        "{\u{1b}[0mn}"
    };
}

/// A stream orchestrator: every chunk of data moves through a checked, journaled state machine.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, propagate_version = true, max_term_width = 110, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    /// More log lines: -v what is done, -vv how, -vvv everything.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,

    /// What log lines look like.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
}

const EXAMPLES: &str = "Examples:
  sluicegate export --from postgres://me@localhost/shop --table orders --to orders.jsonl
  sluicegate run pipeline.yaml
  sluicegate inspect orders.jsonl.journal
  sluicegate verify orders.jsonl.journal
  sluicegate graph --journal orders.jsonl.journal --format svg > orders.svg
  sluicegate check my-lifecycle.json

Exit codes: 0 complete, 1 internal fault or unequal row sum, 2 usage, 3 complete with dead letters, 69 source or sink unavailable,
74 I/O error, 75 stopped and resumable, 78 bad definition or configuration.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Export a Postgres table or query to JSON lines.
    Export(Box<ExportArgs>),
    /// Run a pipeline: files through processors to a file, as a file in YAML, TOML or JSON says.
    Run(Box<RunArgs>),
    /// Look into a journal, also while the run is on.
    Inspect(InspectArgs),
    /// Read an output again and compare it with its journal, and the journal with the table. Exit code 1 if something differs.
    Verify(VerifyArgs),
    /// List, show, replay or drop rows that were set aside.
    Dlq(DlqArgs),
    /// Check definitions and pipeline files; prints every finding with file, line and column.
    Check(CheckArgs),
    /// Draw a definition, with the figures of a run if there is a journal.
    Graph(GraphArgs),
    /// Walk a definition through a script of events, under a clock that only the script moves.
    Simulate(SimulateArgs),
    /// Print the JSON Schema of definitions or of pipelines, for editors.
    Schema(SchemaArgs),
    /// List sources, sinks, processors or formats of pipelines.
    #[command(after_help = "Examples:\n  sluicegate list sources\n  sluicegate list formats")]
    List { kind: PartKind },
    /// Show what can be set of a source, sink, processor or format, with types and defaults.
    #[command(after_help = "Examples:\n  sluicegate show csv\n  sluicegate show file")]
    Show {
        /// Its name, like file or csv.
        name: String,
    },
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  sluicegate completions bash > ~/.local/share/bash-completion/completions/sluicegate")]
    Completions { shell: Shell },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PartKind {
    Sources,
    Sinks,
    Processors,
    Formats,
}

#[derive(Debug, Args)]
#[command(after_help = SCHEMA_EXAMPLES)]
pub struct SchemaArgs {
    /// The schema of pipeline files instead.
    #[arg(long)]
    pub pipeline: bool,
}

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// The pipeline file: .yaml, .toml or .json.
    pub file: PathBuf,

    /// Set something otherwise than the file does, like sink.path=out.jsonl. Comes before SLUICEGATE_SINK__PATH in the environment.
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,

    /// Keep no journal. The run can then be neither inspected nor resumed.
    #[arg(long)]
    pub no_journal: bool,

    /// Start over, whatever an earlier run has left.
    #[arg(long)]
    pub fresh: bool,

    /// Replace the output if it exists.
    #[arg(long)]
    pub force: bool,

    /// Look at the inputs, plan, write nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Whether to show a live line.
    #[arg(long, value_enum, default_value_t = When::Auto, value_name = "WHEN")]
    pub progress: When,

    /// Print nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,

    /// The report at the end: text on standard error, or JSON on standard output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub report: Format,
}

const RUN_EXAMPLES: &str = "The smallest pipeline file:
  source: { type: file, path: in.csv }
  sink: { type: file, path: out.jsonl }

Examples:
  sluicegate run pipeline.yaml
  sluicegate run pipeline.yaml --set source.path=other.csv --set chunk.rows=1000
  sluicegate run pipeline.yaml --dry-run
  SLUICEGATE_SINK__PATH=- sluicegate run pipeline.yaml | jq .id
  zcat big.jsonl.gz | sluicegate run pipeline.yaml --set source.path=- --set source.format=jsonl";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people.
    Table,
    /// One document.
    Json,
    /// One line an item.
    Jsonl,
}

#[derive(Debug, Args)]
#[command(after_help = INSPECT_EXAMPLES)]
pub struct InspectArgs {
    /// The journal.
    pub journal: PathBuf,

    /// What to look at; a summary, if nothing is named.
    #[command(subcommand)]
    pub command: Option<InspectCommand>,

    /// How it is printed.
    #[arg(long, value_enum, default_value_t = ListFormat::Table, global = true)]
    pub format: ListFormat,

    /// Go on printing transitions as they come, until the run ends.
    #[arg(long, global = true)]
    pub follow: bool,
}

const INSPECT_EXAMPLES: &str = "Examples:
  sluicegate inspect orders.jsonl.journal
  sluicegate inspect orders.jsonl.journal chunks --state failed
  sluicegate inspect orders.jsonl.journal chunk 12.3
  sluicegate inspect orders.jsonl.journal transitions --event xstate.error.actor.sink --since 5m --format jsonl
  sluicegate inspect orders.jsonl.journal --follow
  sluicegate inspect orders.jsonl.journal audit";

#[derive(Debug, Subcommand)]
pub enum InspectCommand {
    /// The chunks, with where their rows went.
    Chunks {
        /// Only those in this state.
        #[arg(long)]
        state: Option<String>,
    },
    /// One chunk's whole walk, with times, attempts and errors.
    Chunk {
        /// Its id, like 12.3.
        id: ChunkId,
    },
    /// Transitions, in the order they were written down.
    Transitions(TransitionArgs),
    /// Replay every walk against the definition in the journal, and add the rows up. Exit code 1 if something cannot have happened.
    Audit,
}

#[derive(Debug, Args)]
pub struct TransitionArgs {
    /// Only from or to this state.
    #[arg(long)]
    pub state: Option<String>,

    /// Only by this event.
    #[arg(long)]
    pub event: Option<String>,

    /// Only since then: a time like 2026-01-31T12:00:00Z, or how long ago, like 5m.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Only of this chunk.
    #[arg(long, value_name = "ID")]
    pub chunk: Option<ChunkId>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sluicegate verify orders.jsonl.journal\n  sluicegate verify orders.jsonl.journal --output archive/orders.jsonl\n  sluicegate verify orders.jsonl.journal --against-source --from postgres://me@db.example/shop"
)]
pub struct VerifyArgs {
    /// The journal.
    pub journal: PathBuf,

    #[arg(long, value_name = "PATH", help = OUTPUT_HELP)]
    pub output: Option<String>,

    /// Then read the table again, under a new snapshot or by the same key, and say which ranges of it are not as they were exported. For
    /// what was read in ranges.
    #[arg(long)]
    pub against_source: bool,

    /// Where the table is, with --against-source: a URL or key=value string as libpq takes it. What it leaves open comes from PG*
    /// variables, the service file and the password file.
    #[arg(long, value_name = "CONNINFO", env = "DATABASE_URL", hide_env_values = true, default_value = "")]
    pub from: String,

    /// Connections that read side by side, with --against-source [default: the number of processors, at most 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: Option<u16>,

    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sluicegate check my-lifecycle.json\n  sluicegate check pipeline.yaml\n  sluicegate check --for-export --format json *.json"
)]
pub struct CheckArgs {
    /// Definitions (JSON) and pipeline files (YAML, TOML, JSON).
    #[arg(required = true)]
    pub files: Vec<PathBuf>,

    /// Also check that the exporter has every handler that the definition invokes.
    #[arg(long)]
    pub for_export: bool,

    /// Print the definition with every shorthand written out.
    #[arg(long)]
    pub canonical: bool,

    /// How findings are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

const SCHEMA_EXAMPLES: &str = "Examples:
  sluicegate schema > definition.schema.json
  sluicegate schema --pipeline > pipeline.schema.json

and in the definition:
  { \"$schema\": \"./definition.schema.json\", \"id\": \"mine\", ... }";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Text that Markdown viewers draw.
    Mermaid,
    /// Text for Graphviz.
    Dot,
    /// A finished picture.
    Svg,
}

#[derive(Debug, Args)]
#[command(after_help = GRAPH_EXAMPLES)]
pub struct GraphArgs {
    /// The definition [default: the one in the journal].
    #[arg(required_unless_present = "journal")]
    pub file: Option<PathBuf>,

    /// What to write.
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    pub format: GraphFormat,

    /// Draw the figures of this journal on it: chunks, retries, errors, time in each state.
    #[arg(long, value_name = "JOURNAL")]
    pub journal: Option<PathBuf>,
}

const GRAPH_EXAMPLES: &str = "Examples:
  sluicegate graph my-lifecycle.json
  sluicegate graph my-lifecycle.json --format svg > my-lifecycle.svg
  sluicegate graph --journal orders.jsonl.journal --format svg > orders.svg";

#[derive(Debug, Args)]
#[command(after_help = SIMULATE_EXAMPLES)]
pub struct SimulateArgs {
    /// The definition. Without one, case lines of the conformance kit are read from standard input.
    #[arg(requires = "events")]
    pub file: Option<PathBuf>,

    /// What happens, in words between blanks.
    #[arg(long, value_name = "SCRIPT", num_args = 1.., requires = "file", allow_hyphen_values = true)]
    pub events: Vec<String>,
}

const SIMULATE_EXAMPLES: &str = "Words of a script:
  NAME  NAME={\"key\":1}                 an event from outside, with its payload
  +100ms  +5s  +2m  +1h                  time passes; what is due happens
  done:WHO  done:WHO=JSON                the running invocation WHO (its id or src) succeeds
  fail:WHO  fail:WHO=KIND  fail:WHO={…}  it fails
  guard:NAME=true                        what a guard of the program says from now on

Examples:
  sluicegate simulate fsm-definitions/chunk.json --events 'done:validate fail:transform=busy +1s done:transform done:sink'
  sluicegate simulate < cases.jsonl > trajectories.jsonl";

#[derive(Debug, Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct ExportArgs {
    /// Where the data is: a URL or key=value string as libpq takes it. What it leaves open comes from PG* variables, the service file
    /// and the password file. A password belongs into one of these: what stands here, others on this machine can see in the list of
    /// processes.
    #[arg(help_heading = "What is read", long, value_name = "CONNINFO", env = "DATABASE_URL", hide_env_values = true, default_value = "")]
    pub from: String,

    /// A table, by SQL name or by a pattern as psql's \d takes it. May be given several times; all are read under one snapshot.
    #[arg(help_heading = "What is read", long, value_name = "NAME", required_unless_present = "query")]
    pub table: Vec<String>,

    /// The rows of a query instead of a table.
    #[arg(help_heading = "What is read", long, value_name = "SQL", conflicts_with = "table")]
    pub query: Option<String>,

    /// Only these columns, in this order: SQL names, separated by commas.
    #[arg(help_heading = "What is read", long, value_name = "NAMES")]
    pub columns: Option<String>,

    /// Only rows for which this SQL condition holds.
    #[arg(help_heading = "What is read", long = "where", value_name = "SQL")]
    pub filter: Option<String>,

    /// Only so many rows (read on one connection).
    #[arg(help_heading = "What is read", long, value_name = "ROWS")]
    pub limit: Option<u64>,

    /// In the order of these SQL expressions (read on one connection).
    #[arg(help_heading = "What is read", long, value_name = "SQL")]
    pub order_by: Option<String>,

    /// What to do about row-security policies that hide rows from this role.
    #[arg(help_heading = "What is read", long, value_enum, default_value_t = RowSecurityArg::Refuse)]
    pub row_security: RowSecurityArg,

    /// Which moment the rows are of, and what to do when the table has changed since an export was begun that is to be gone on with.
    #[arg(help_heading = "What is read", long, value_enum, default_value_t = Consistency::Snapshot, value_name = "MODE")]
    pub consistency: Consistency,

    /// With --consistency keyset: the columns of the unique index that makes the ranges, separated by commas [default: the primary key,
    /// else the smallest unique index that can].
    #[arg(help_heading = "What is read", long, value_name = "COLUMNS")]
    pub key: Option<String>,

    /// Stop, resumable, when the snapshot has been held for so long: it keeps the server from cleaning up.
    #[arg(help_heading = "What is read", long, value_name = "TIME", value_parser = duration)]
    pub max_snapshot_age: Option<Duration>,

    #[arg(help = TO_HELP, help_heading = "Where it goes", long, value_name = "PATH")]
    pub to: String,

    /// Compress: none, gzip, zstd, or with a level, like zstd:9 [default: by the output's extension].
    #[arg(help_heading = "Where it goes", long, value_name = "METHOD", value_parser = crate::source::postgres::Compression::parse)]
    pub compress: Option<crate::source::postgres::Compression>,

    /// Where rows go that cannot be written, with their reason [default: the output's path with .dead.jsonl behind it; none for
    /// standard output, where such a row ends the run].
    #[arg(help_heading = "Where it goes", long, value_name = "PATH")]
    pub dead_letter: Option<PathBuf>,

    /// The journal [default: the output's path with .journal behind it; none for standard output].
    #[arg(help_heading = "Where it goes", long, value_name = "PATH", conflicts_with = "no_journal")]
    pub journal: Option<PathBuf>,

    /// Keep no journal. The run can then be neither inspected nor resumed.
    #[arg(help_heading = "Where it goes", long)]
    pub no_journal: bool,

    /// Start over, whatever an earlier run has left.
    #[arg(help_heading = "Where it goes", long)]
    pub fresh: bool,

    /// Replace the output if it exists.
    #[arg(help_heading = "Where it goes", long)]
    pub force: bool,

    /// Permissions of new files, in octal, whatever the umask is.
    #[arg(help_heading = "Where it goes", long, value_name = "MODE", value_parser = mode, default_value = "600")]
    pub mode: u32,

    /// Write chunks as they come, not in the table's order.
    #[arg(help_heading = "Where it goes", long)]
    pub unordered: bool,

    /// Write through the page cache instead of around it.
    #[arg(help_heading = "Where it goes", long)]
    pub buffered: bool,

    /// Make the output durable after so much of it, and at least every second: what a crash may cost.
    #[arg(help_heading = "How it runs", long, value_name = "SIZE", value_parser = size, default_value = "64MiB")]
    pub checkpoint_bytes: usize,

    /// The lifecycle of a chunk, instead of the built-in one.
    #[arg(help_heading = "How it runs", long, value_name = "FILE")]
    pub definition: Option<PathBuf>,

    /// How often a failing chunk is tried again before its rows are set aside (`maxAttempts` of the definition).
    #[arg(help_heading = "How it runs", long, value_name = "N")]
    pub max_attempts: Option<u32>,

    /// For how long a server or disk in trouble is tried again before the run gives up, resumable.
    #[arg(help_heading = "How it runs", long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub give_up_after: Duration,

    /// Threads that encode and compress [default: the number of processors].
    #[arg(help_heading = "How it runs", long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub workers: Option<u16>,

    /// Connections that read side by side [default: the number of processors, at most 4].
    #[arg(help_heading = "How it runs", long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: Option<u16>,

    /// How much data may be in memory; reading pauses at this mark [default: 32MiB, or less where the control group has less].
    #[arg(help_heading = "How it runs", long, value_name = "SIZE", value_parser = size)]
    pub memory_limit: Option<usize>,

    /// A chunk ends before it gets larger than this, as the server sends it [default: 256KiB, or less where memory is short].
    #[arg(help_heading = "How it runs", long, value_name = "SIZE", value_parser = size)]
    pub chunk_bytes: Option<usize>,

    /// A chunk has at most so many rows.
    #[arg(help_heading = "How it runs", long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub chunk_rows: Option<u64>,

    /// Write nothing; say how it would be read, how much is to be expected, and what is at the target already. Reads one range to know.
    #[arg(help_heading = "How it runs", long, visible_alias = "dry-run")]
    pub plan: bool,

    /// Whether to show a live line.
    #[arg(help_heading = "What is told", long, value_enum, default_value_t = When::Auto, value_name = "WHEN")]
    pub progress: When,

    /// Print nothing but errors.
    #[arg(help_heading = "What is told", short, long)]
    pub quiet: bool,

    /// The report at the end: text on standard error, or JSON on standard output.
    #[arg(help_heading = "What is told", long, value_enum, default_value_t = Format::Text)]
    pub report: Format,
}

const OUTPUT_HELP: &str =
    concat!("Where the output is now, if it was moved; with ", lane_number!(), " in it where every lane wrote a file of its own");

const TO_HELP: &str = concat!(
    "Output file, or - for standard output. {table} and {schema} are replaced; with ",
    lane_number!(),
    " every lane writes a file of its own"
);

const EXPORT_EXAMPLES: &str = concat!(
    "Examples:
  sluicegate export --from postgres://me@db.example/shop --table orders --to orders.jsonl
  sluicegate export --table 'sales.*' --to 'dump/{schema}.{table}.jsonl.zst'
  sluicegate export --table events --where \"ts >= '2026-01-01'\" --to - | jq .id
  sluicegate export --query 'SELECT id, total FROM orders JOIN ...' --to totals.jsonl.gz
  sluicegate export --table events --to events.jsonl.zst --consistency keyset --plan
  sluicegate export --table big --to 'parts/big-",
    lane_number!(),
    ".jsonl' --connections 8 --memory-limit 256MiB"
);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RowSecurityArg {
    /// Refuse to export such a table.
    Refuse,
    /// Export what the policies let through.
    Apply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Consistency {
    /// Refuse: everything in the output is what one snapshot shows.
    Snapshot,
    /// Read ranges of a unique key, each in a short transaction of its own: no snapshot is held, and a table that is being written can be
    /// gone on with. A row that does not change is there exactly once; rows in different ranges are of different moments.
    Keyset,
    /// Read a standby or clone whose replay is paused: no snapshot is held, and the export can be gone on with for ever, on every clone
    /// that stands at the same place of the log.
    Frozen,
    /// Go on: rows may be lost or doubled, and the exit code says so (3).
    Mixed,
}

/// Reads `--mode`.
pub fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| format!("`{text}` is no mode; write 600 or 644"))
}

/// Prints a completion script.
pub fn completions(shell: Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "sluicegate", &mut std::io::stdout());
}
