//! That rows of a dead-letter file are being replayed, written down beside it before that begins.
//!
//! An output that is complete and marks that say so cannot come into being at one instant. Between the two, this file says that there is
//! an output whose rows have to be marked, so that no later replay takes them for pending.

use super::super::output_file::{io_trouble, sync_folder};
use crate::failpoint::{durable_file, step};
use crate::trouble::{Trouble, TroubleKind};
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What is being replayed into where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The output.
    pub to: PathBuf,
    /// Its journal.
    pub journal: PathBuf,
    /// Its dead letter.
    pub dead_letter: PathBuf,
    /// What the dead-letter file was then: XXH3, 64 bits, hexadecimal.
    pub digest: String,
    /// When, by RFC 3339.
    pub at: String,
}

impl Intent {
    /// Where it is written for the dead-letter file at `path`.
    pub fn name(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".replay");
        name.into()
    }

    /// What is written for the dead-letter file at `path`, if anything is.
    ///
    /// # Errors
    /// When it cannot be read, or is something else.
    pub fn read(path: &Path) -> Result<Option<Intent>, Trouble> {
        let name = Intent::name(path);
        match std::fs::read(&name) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                let message = format!("{} does not say what is being replayed, which it is for", name.display());
                Trouble::lasting(TroubleKind::Configuration, message).because(error)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_trouble(&name, "cannot be read", error)),
        }
    }

    /// Writes it for the dead-letter file at `path`, durably. Replaces what was there.
    ///
    /// # Errors
    /// When that cannot be.
    pub fn write(&self, path: &Path) -> Result<(), Trouble> {
        let name = Intent::name(path);
        let mut new = name.clone().into_os_string();
        new.push(".new");
        let new = PathBuf::from(new);
        let failed = |error: io::Error| io_trouble(&new, "cannot be written", error);
        // What a crash has left. Nobody else is at it: the dead-letter file is claimed.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
        let mut text = serde_json::to_vec(self).expect("plain data, and memory takes it");
        text.push(b'\n');
        step("dlq.intent", "write", || file.write_all(&text)).map_err(failed)?;
        step("dlq.intent", "sync", || file.sync_all()).map_err(failed)?;
        durable_file(&new);
        step("dlq.intent", "rename", || std::fs::rename(&new, &name)).map_err(failed)?;
        sync_folder("dlq.intent", &name)?;
        Ok(())
    }

    /// Nothing is being replayed any more.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn remove(path: &Path) -> Result<(), Trouble> {
        let name = Intent::name(path);
        match step("dlq.intent", "remove", || std::fs::remove_file(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_trouble(&name, "cannot be removed", error)),
            _ => {}
        }
        sync_folder("dlq.intent", &name)?;
        Ok(())
    }
}
