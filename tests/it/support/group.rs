//! A control group with a memory limit, to run the program in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A group, gone when this is dropped.
pub struct ControlGroup {
    folder: PathBuf,
}

impl ControlGroup {
    /// One in which processes may have so many bytes together, `depth` groups below that with the limit. `None` where this process may
    /// not make groups.
    pub fn with_limit(bytes: u64, depth: usize) -> Option<ControlGroup> {
        let first = ControlGroup::at("/sys/fs/cgroup/memory".as_ref(), "memory.limit_in_bytes", bytes, depth, false);
        let made = first.or_else(|| ControlGroup::at("/sys/fs/cgroup".as_ref(), "memory.max", bytes, depth, true));
        if made.is_none() {
            eprintln!("skipped: this process may not make a control group with a memory limit");
        }
        made
    }

    fn at(top: &Path, limit: &str, bytes: u64, depth: usize, is_second: bool) -> Option<ControlGroup> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if is_second && !std::fs::read_to_string(top.join("cgroup.subtree_control")).ok()?.contains("memory") {
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut folder = top.join(format!("sluicegate-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).ok()?;
        let limited = std::fs::write(folder.join(limit), bytes.to_string());
        for _ in 0..depth {
            folder.push("below");
            std::fs::create_dir(&folder).ok()?;
        }
        let group = ControlGroup { folder };
        limited.ok().map(|()| group)
    }

    /// The same command, run in the group.
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.folder.join("cgroup.procs"));
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // A process that was just waited for may be counted for a moment yet.
        let mut tries = 100;
        let mut folder = self.folder.as_path();
        while tries > 0
            && folder.starts_with("/sys/fs/cgroup")
            && folder.ends_with("below") | folder.to_string_lossy().contains("sluicegate-")
        {
            match std::fs::remove_dir(folder) {
                Ok(()) => folder = folder.parent().expect("a group is in another"),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
            tries -= 1;
        }
    }
}
