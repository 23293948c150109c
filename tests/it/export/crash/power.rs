//! What a loss of power leaves of files: what was synced, and of the rest whatever the disk happened to get.
//!
//! The program keeps a copy of each file as it was at its last sync, by inode, and the names in the directory as they were at the
//! directory's. That is what survives for sure. Of what was written since, any sector may be there or not, be it in the middle of a row or
//! of a page of the journal; a file that was renamed may have either name.

use crate::support::program::Folder;
use crate::support::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a disk writes in one piece.
const SECTOR: usize = 512;

/// The head of SQLite's write-ahead log, which is synced before anything is written behind a new one.
const LOG_HEAD: usize = 32;

/// What survives of that which was not synced.
#[derive(Clone, Copy, Debug)]
pub enum Survives {
    /// Nothing.
    Nothing,
    /// Sectors and names at random.
    Some,
}

/// A file by its inode: as it was last synced, and as it is now.
struct Versions {
    synced: Vec<u8>,
    now: Vec<u8>,
}

/// What is in `folder` after a loss of power, in a folder of its own. `disk` is what the program kept.
pub fn loss(folder: &Path, disk: &Path, survives: Survives, random: &mut Random) -> Folder {
    let after = Folder::new();
    let (synced, now) = (synced_names(disk), names(folder));
    let journal = |name: &str| name.ends_with(".journal");
    // A log says something only together with its file.
    let pair = now.keys().find(|name| journal(name)).and_then(|name| {
        let log = format!("{name}-wal");
        Some((versions(folder, disk, name, now[name])?, now.get(&log).and_then(|inode| versions(folder, disk, &log, *inode))))
    });
    let was_moved = pair.as_ref().is_some_and(|(file, _)| file.synced != file.now);
    for (name, inode) in surviving_names(&synced, &now, survives, random) {
        // The index of a log is not looked at after a crash.
        if name.ends_with("-shm") {
            continue;
        }
        let current = now.iter().find(|(_, there)| **there == inode).map(|(name, _)| name.clone());
        let found = current.and_then(|current| versions(folder, disk, &current, inode));
        let bytes = match (found, survives) {
            (None, _) | (Some(_), Survives::Nothing) => std::fs::read(disk.join(inode.to_string())).unwrap_or_default(),
            // Only a log that was synced is moved into its file, and then that is synced.
            (Some(Versions { now, .. }), _) if was_moved && name.contains(".journal") => now,
            (Some(Versions { now, .. }), _) if journal(&name) => now,
            (Some(Versions { synced, now }), _) => {
                let head = if name.ends_with("-wal") && synced.get(..LOG_HEAD) != now.get(..LOG_HEAD) { LOG_HEAD } else { 0 };
                torn(&synced, &now, head, random)
            }
        };
        std::fs::write(after.join(&name), bytes).unwrap();
    }
    after
}

/// Names that the directory has afterwards: those that were synced and those that it has now, each with what it stands for.
fn surviving_names(
    synced: &BTreeMap<String, u64>,
    now: &BTreeMap<String, u64>,
    survives: Survives,
    random: &mut Random,
) -> BTreeMap<String, u64> {
    if let Survives::Nothing = survives {
        return synced.clone();
    }
    let inodes: BTreeSet<u64> = synced.values().chain(now.values()).copied().collect();
    let name_in =
        |names: &BTreeMap<String, u64>, inode: u64| names.iter().find(|(_, there)| **there == inode).map(|(name, _)| name.clone());
    let mut names = BTreeMap::new();
    for inode in inodes {
        let name = name_in(if random.below(2) == 0 { synced } else { now }, inode);
        names.extend(name.map(|name| (name, inode)));
    }
    names
}

/// A mixture of two states of a file, of which the first `certain` bytes are as they are now.
fn torn(synced: &[u8], now: &[u8], certain: usize, random: &mut Random) -> Vec<u8> {
    let (shorter, longer) = (synced.len().min(now.len()), synced.len().max(now.len()));
    let length = match random.below(4) {
        0 => synced.len(),
        1 => now.len(),
        _ => shorter + usize::try_from(random.below((longer - shorter) as u64 + 1)).unwrap(),
    };
    let mut bytes = vec![0; length.max(certain)];
    for (number, sector) in bytes.chunks_mut(SECTOR).enumerate() {
        let from = if random.below(2) == 0 { synced } else { now };
        let there = from.get(number * SECTOR..).unwrap_or_default();
        let count = there.len().min(sector.len());
        sector[..count].copy_from_slice(&there[..count]);
    }
    bytes[..certain].copy_from_slice(&now[..certain]);
    bytes
}

fn versions(folder: &Path, disk: &Path, name: &str, inode: u64) -> Option<Versions> {
    Some(Versions { synced: std::fs::read(disk.join(inode.to_string())).unwrap_or_default(), now: std::fs::read(folder.join(name)).ok()? })
}

fn synced_names(disk: &Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(disk.join("names")).unwrap_or_default();
    text.lines().map(|line| line.split_once(' ').unwrap()).map(|(inode, name)| (name.to_owned(), inode.parse().unwrap())).collect()
}

fn names(folder: &Path) -> BTreeMap<String, u64> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().ino())).collect()
}

/// A copy of `folder`, and a disk that has all of it.
pub fn copy(folder: &Path) -> (Folder, Folder) {
    let (copy, disk) = (Folder::new(), Folder::new());
    for name in names(folder).keys() {
        std::fs::copy(folder.join(name), copy.join(name)).unwrap();
    }
    let mut list = String::new();
    for (name, inode) in names(copy.path()) {
        std::fs::copy(copy.join(&name), disk.join(&inode.to_string())).unwrap();
        list += &format!("{inode} {name}\n");
    }
    std::fs::write(disk.join("names"), list).unwrap();
    (copy, disk)
}
