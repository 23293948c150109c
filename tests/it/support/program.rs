//! The real program, run as a user would.

use super::cluster::{self, Cluster, Database};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// How a run of the program ended.
pub struct Ran {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    /// Standard output as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8 on standard output")
    }

    /// The same run, if it ended as it should.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "\nstdout:\n{}\nstderr:\n{}", String::from_utf8_lossy(&self.stdout), self.stderr);
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran { code: output.status.code(), stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
    }
}

/// The program, with nothing of our environment that could steer it.
pub fn sluicegate() -> Command {
    let mut command = Command::new(reachable_program());
    cluster::without_pg_environment(&mut command);
    command.env_remove("DATABASE_URL").stdin(Stdio::null());
    command
}

/// The program where an unprivileged user can run it: root's build may be in a directory that is closed to others.
fn reachable_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_sluicegate"));
        if !rustix::process::geteuid().is_root() {
            return built;
        }
        let copy = Cluster::shared().dir().join("sluicegate");
        std::fs::copy(&built, &copy).expect("the program can be copied");
        copy
    })
}

/// Runs the program with these arguments.
pub fn run<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ran {
    sluicegate().args(arguments).output().expect("the program starts").into()
}

/// `sluicegate export --from DATABASE ARGUMENTS`, words separated by blanks.
pub fn export(database: &Database<'_>, arguments: &str) -> Command {
    let mut command = sluicegate();
    command.args(["export", "--from", &database.url()]).args(arguments.split_whitespace());
    command
}

/// Runs a prepared command.
pub fn ran(command: &mut Command) -> Ran {
    command.output().expect("the program starts").into()
}

/// What a person reads, without what differs from run to run.
pub fn shown(text: &str, folder: &Folder, database: &Database<'_>) -> String {
    let text = text.replace(folder.path().to_str().expect("UTF-8"), "[dir]").replace(database.name(), "[db]");
    text.replace(&format!(":{}", cluster::Cluster::shared().port()), ":[port]")
}

/// A directory of the test's own.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary directory"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A path in it, as text.
    pub fn text(&self, name: &str) -> String {
        self.join(name).to_str().expect("UTF-8").to_owned()
    }

    pub fn read(&self, name: &str) -> String {
        String::from_utf8(std::fs::read(self.join(name)).expect("the file is there")).expect("UTF-8")
    }

    /// Names of the files in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).expect("the directory is there");
        let mut names: Vec<String> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// What the server itself makes of rows, one line each: the oracle. Raw line breaks in `json` values as spaces.
///
/// By COPY with a quote and a delimiter that no row contains, because psql's own output drops some characters (U+10FFFF).
pub fn row_to_json(database: &Database<'_>, from: &str) -> String {
    let line = "replace(replace(row_to_json(the_row)::text, E'\\n', ' '), E'\\r', ' ')";
    let copy = format!("COPY (SELECT {line} FROM {from} the_row) TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')");
    let mut lines = database.psql(&format!("SET timezone = 'UTC'; {copy}"));
    if !lines.is_empty() {
        lines.push('\n');
    }
    lines
}
