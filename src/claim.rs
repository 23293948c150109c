//! Files that one process writes and no other: an output, a journal.

use crate::trouble::{Trouble, TroubleKind};
use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Says that nobody else writes a file, for as long as it lives.
pub struct FileClaim(#[expect(dead_code, reason = "it is held, not used")] File);

impl FileClaim {
    /// Claims `file`, which is at `path`.
    ///
    /// # Errors
    /// [`TroubleKind::Busy`], naming the process that has claimed it already.
    pub fn of(file: File, path: &Path) -> Result<FileClaim, Trouble> {
        claim(&file, path)?;
        Ok(FileClaim(file))
    }
}

/// Makes sure that nobody else writes the file, for as long as it is open.
///
/// # Errors
/// [`TroubleKind::Busy`], naming the process that does.
pub(crate) fn claim(file: &File, path: &Path) -> Result<(), Trouble> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let who = holder(file).map_or("another process".to_owned(), |pid| format!("process {pid}"));
            Err(Trouble::lasting(TroubleKind::Busy, format!("{} is being written by {who}", path.display())))
        }
        Err(TryLockError::Error(error)) => {
            let message = format!("{}: cannot be locked", path.display());
            Err(Trouble::passing(TroubleKind::Io, message).because(error))
        }
    }
}

/// Whether this is the file that is at `path` now.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// Who holds the lock, where the system tells (Linux: proc(5), `/proc/locks`).
fn holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_flock = words.next()? == "FLOCK";
        let pid = words.nth(2)?.parse().ok()?;
        let place = words.next()?;
        (is_flock && place.rsplit(':').next() == Some(&inode)).then_some(pid)
    })
}
