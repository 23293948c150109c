//! A small disk, to be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, gone when this is dropped.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `bytes` bytes in `folder`. `None` where this process may not: only root may.
    pub fn mount(folder: &Path, bytes: u64) -> Option<SmallDisk> {
        let path = folder.join("disk");
        std::fs::create_dir(&path).expect("a directory");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(&path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk { path });
        }
        // Root of a machine may; in a container without that right there is no small disk to be had.
        eprintln!("skipped: this process may not mount a file system");
        None
    }

    /// Makes room.
    pub fn grow(&self, bytes: u64) {
        let remount = Command::new("mount").args(["-o", &format!("remount,size={bytes}")]).arg(&self.path).status();
        assert!(remount.expect("mount").success());
    }

    /// Lets nobody write there any more.
    pub fn protect(&self) {
        let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.path).status();
        assert!(remount.expect("mount").success());
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}
