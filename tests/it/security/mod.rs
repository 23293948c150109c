//! What must not happen whatever is asked for: secrets told, names taken for something else, files of others touched.

mod files;
mod names;
mod secrets;

use crate::support::program::Folder;
use std::path::Path;

/// The files in a directory, with what is in them.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder).expect("the directory is there").flatten().filter(|entry| entry.path().is_file());
    let mut found: Vec<_> =
        files.map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("readable"))).collect();
    found.sort();
    found
}

/// Rows of which `id = 2` is no text, in a database that takes it.
const ROWS: &str = "CREATE TABLE t AS SELECT i AS id, convert_from(set_byte('\\x7878'::bytea, 0, 126 + i), 'SQL_ASCII') AS note FROM generate_series(1, 2) i";

/// `path` without the folder's own.
fn within(text: &str, folder: &Folder) -> String {
    text.replace(folder.path().to_str().expect("UTF-8"), "[dir]")
}
