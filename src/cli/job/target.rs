//! Where a run goes: which file for which table and lane.

use super::super::exit::Failure;
use crate::failpoint::step;
use crate::journal::sqlite::{claim, query::Reader, schema};
use crate::sink::{partial_name, sync_folder};
use crate::source::postgres::{Compression, Export};
use crate::trouble::{Trouble, TroubleKind};
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// `--to`, with its placeholders.
pub struct Targets {
    text: String,
}

/// Where one run goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file, or one for each lane where the name has `{n}` in it.
    Files(String),
    /// Something that takes bytes and keeps none: standard output, a pipe, a device.
    Stream(PathBuf),
}

impl Targets {
    /// Reads `--to`.
    pub fn parse(text: &str) -> Result<Targets, Failure> {
        if text.is_empty() {
            return Err(Failure::configuration("--to is empty; give a file, or - for standard output"));
        }
        let mut rest = text;
        while let Some((_, behind)) = rest.split_once('{') {
            let (name, behind) =
                behind.split_once('}').ok_or_else(|| Failure::configuration(format!("--to {text}: a brace is never closed")))?;
            if !["table", "schema", "n"].contains(&name) {
                return Err(Failure::configuration(format!(
                    "--to {text}: {{{name}}} is unknown; there are {{table}}, {{schema}} and {{n}}"
                )));
            }
            rest = behind;
        }
        Ok(Targets { text: text.to_owned() })
    }

    /// Whether it is standard output, a pipe or a device.
    pub fn is_stream(&self) -> bool {
        is_stream(&self.text)
    }

    /// Whether every lane writes a file of its own.
    pub fn has_parts(&self) -> bool {
        self.text.contains("{n}")
    }

    /// Looks whether the directory is there, before anybody is asked for data.
    pub fn check_folders(&self) -> Result<(), Failure> {
        let path = Path::new(&self.text);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.to_string_lossy().contains('{'));
        if self.text == "-" || folder.is_none_or(Path::is_dir) {
            return Ok(());
        }
        let message = format!("the directory {} does not exist", folder.unwrap_or(path).display());
        Err(Trouble::lasting(TroubleKind::Io, message).into())
    }

    /// One target for each export.
    pub fn for_exports(&self, exports: &[Export]) -> Result<Vec<Target>, Failure> {
        if exports.len() > 1 && !self.text.contains("{table}") {
            let message = format!("{} tables go to one output; put {{table}} into --to, like 'dir/{{table}}.jsonl'", exports.len());
            return Err(Failure::configuration(message));
        }
        let targets: Vec<Target> = exports.iter().map(|export| self.for_export(export)).collect();
        let mut seen = BTreeSet::new();
        if let Some(twice) = targets.iter().find(|target| !seen.insert(target.to_string())) {
            let advice = if self.text.contains("{schema}") { "export one of them by itself" } else { "put {schema} into --to as well" };
            return Err(Failure::configuration(format!("two tables go to {twice}; {advice}")));
        }
        // One table's output may have the name of another's journal or dead letter.
        let mut seen = BTreeSet::new();
        let mut all = exports.iter().zip(&targets).flat_map(|(export, target)| target.written(export));
        match all.find(|path| !seen.insert(path.clone())) {
            Some(twice) => {
                let message = format!("two tables would write {}; export one of them by itself", twice.display());
                Err(Failure::configuration(message))
            }
            None => Ok(targets),
        }
    }

    fn for_export(&self, export: &Export) -> Target {
        let schema = export.schema.as_deref().unwrap_or("public");
        let (table, schema) = (one_word(&export.name), one_word(schema));
        let parts = self.text.split('/').map(|part| {
            let filled = part.replace("{table}", &table).replace("{schema}", &schema);
            // No name leads to another directory than the one that was given.
            if part.contains('{') && [".", ".."].contains(&filled.as_str()) { filled.replace('.', "_") } else { filled }
        });
        let path = parts.collect::<Vec<_>>().join("/");
        // A table may be called `-`, too.
        if is_stream(&path) && (path != "-" || self.text == "-") {
            return Target::Stream(path.into());
        }
        Target::Files(path)
    }
}

/// `name` as part of a file's name: without what would mean something there, to the system, to us or to a terminal.
fn one_word(name: &str) -> String {
    name.replace(|character: char| matches!(character, '/' | '{' | '}') || character.is_control(), "_")
}

fn is_stream(path: &str) -> bool {
    let is_special = |kind: std::fs::FileType| kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket();
    path == "-" || Path::new(path).metadata().is_ok_and(|metadata| is_special(metadata.file_type()))
}

impl Target {
    /// What a path names.
    pub fn of_path(path: &str) -> Target {
        if is_stream(path) { Target::Stream(path.into()) } else { Target::Files(path.to_owned()) }
    }

    /// The files that an export writes.
    pub fn files(&self, export: &Export) -> Vec<PathBuf> {
        self.part_files(export.part_starts.len())
    }

    /// The files that a run with so many outputs writes.
    pub fn part_files(&self, parts: usize) -> Vec<PathBuf> {
        match self {
            Target::Files(path) => (0..parts).map(|part| path.replace("{n}", &part.to_string()).into()).collect(),
            Target::Stream(path) => vec![path.clone()],
        }
    }

    /// Whether what is written is given away at once.
    pub fn is_stream(&self) -> bool {
        matches!(self, Target::Stream(_))
    }

    /// The name of a file that belongs to the output; none beside a stream.
    pub fn beside(&self, extension: &str) -> Option<PathBuf> {
        match self {
            Target::Files(path) => Some(format!("{}.{extension}", path.replace("{n}", "N")).into()),
            Target::Stream(_) => None,
        }
    }

    /// Everything that an export may write besides what the user names.
    fn written(&self, export: &Export) -> Vec<PathBuf> {
        let Target::Files(_) = self else { return Vec::new() };
        let dead_letter = self.beside("dead.jsonl");
        let whole: Vec<PathBuf> = self.files(export).into_iter().chain(dead_letter).collect();
        let partial: Vec<PathBuf> = whole.iter().map(|path| partial_name(path)).collect();
        let journal = self.beside("journal").into_iter().flat_map(|path| journal_files(&path));
        whole.into_iter().chain(partial).chain(journal).collect()
    }

    /// What the extension asks for.
    pub fn compression(&self) -> Compression {
        match self {
            Target::Files(path) if path.ends_with(".gz") => Compression::Gzip { level: 6 },
            Target::Files(path) if path.ends_with(".zst") => Compression::Zstd { level: 3 },
            _ => Compression::None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Files(path) => f.write_str(path),
            Target::Stream(path) if path == Path::new("-") => f.write_str("standard output"),
            Target::Stream(path) => path.display().fmt(f),
        }
    }
}

/// Opens standard output, a pipe or a device.
pub fn open_stream(path: &Path) -> Result<Box<dyn std::io::Write + Send>, Failure> {
    if path == Path::new("-") {
        // Chunks are large: the line buffer of the standard library's handle would only look for line ends in them.
        use std::os::fd::AsFd;
        let out = std::io::stdout().as_fd().try_clone_to_owned().map_err(|error| cannot_open(path, error))?;
        return Ok(Box::new(File::from(out)));
    }
    Ok(Box::new(OpenOptions::new().write(true).open(path).map_err(|error| cannot_open(path, error))?))
}

fn cannot_open(path: &Path, error: std::io::Error) -> Failure {
    Trouble::lasting(TroubleKind::Io, format!("{} cannot be opened", path.display())).because(error).into()
}

/// Makes way for a new journal. What is none is left alone.
pub fn remove_journal(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
        let message = format!("{} is a symbolic link, which is not followed; remove it, or give another --journal", path.display());
        return Err(Trouble::lasting(TroubleKind::Io, message).into());
    }
    // Not under a run that writes it.
    drop(claim(path)?);
    if path.exists() && Reader::open_unless_empty(path).is_err() && !schema::is_marked(path) {
        let message = format!("{} is not a journal, and is not replaced", path.display());
        return Err(Failure::configuration(message).advise("Give another --journal, or another --to."));
    }
    let mut removed = false;
    for name in journal_files(path) {
        if name.symlink_metadata().is_ok() {
            step("journal", "remove", || std::fs::remove_file(&name)).map_err(|error| {
                let message = format!("{} cannot be removed", name.display());
                Failure::from(Trouble::lasting(TroubleKind::Io, message).because(error))
            })?;
            removed = true;
        }
    }
    // Or the log of the old one might come back beside the new one.
    if removed { Ok(sync_folder("journal", path)?) } else { Ok(()) }
}

/// The files that a journal consists of while it is open. A log that stayed behind alone would be taken for one of the next journal.
pub fn journal_files(path: &Path) -> [PathBuf; 4] {
    ["", "-wal", "-shm", "-journal"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    })
}
