//! Memory limits of the control groups that this process is in (Linux, versions 1 and 2).
//!
//! The limit of a group binds all groups below it, so all of them count, from the process's own up to the root. What counts as used is what
//! the system cannot take back: anonymous and shared memory. The page cache of our own output is not ours to save.

use std::path::{Path, PathBuf};

/// A group with a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    folder: PathBuf,
    version: Version,
    /// Bytes.
    pub limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Who is asked how much there is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    limited: Vec<Group>,
}

/// How much a group holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Bytes that cannot be taken back.
    pub used: u64,
    /// Bytes that it may have.
    pub limit: u64,
}

impl Usage {
    /// What is left.
    pub fn room(self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

impl Groups {
    /// Those of this process. None where there are no control groups, or none with a limit.
    pub fn of_this_process() -> Groups {
        Groups::under(Path::new("/"))
    }

    /// The same for a system whose files are below `root`.
    fn under(root: &Path) -> Groups {
        let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap_or_default();
        let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
        let mut limited = Vec::new();
        for line in groups.lines() {
            // `0::PATH` is version 2; in version 1 the middle says which controllers the hierarchy has.
            let mut words = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (words.next(), words.next()) else { continue };
            let version = match controllers {
                "" => Version::Two,
                _ if controllers.split(',').any(|controller| controller == "memory") => Version::One,
                _ => continue,
            };
            if let Some(mount) = mounts.lines().find_map(|line| Mount::of(line, version)) {
                limited.extend(mount.groups(path, version, root));
            }
        }
        Groups { limited }
    }

    /// The group that has the least left.
    pub fn tightest(&self) -> Option<Usage> {
        self.limited.iter().filter_map(Group::usage).min_by_key(|usage| usage.room())
    }
}

/// Where a hierarchy of groups can be seen.
struct Mount {
    /// The group that is there.
    top: String,
    /// Where that is.
    at: PathBuf,
}

impl Mount {
    /// Reads a line of `/proc/self/mountinfo` (proc(5)): `ID PARENT DEVICE TOP AT OPTIONS … - TYPE SOURCE OPTIONS`.
    fn of(line: &str, version: Version) -> Option<Mount> {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1)?);
        let fits = match version {
            Version::Two => name == "cgroup2",
            Version::One => name == "cgroup" && options.split(',').any(|option| option == "memory"),
        };
        let mut place = place.split(' ').skip(3);
        let (top, at) = (place.next()?, place.next()?);
        fits.then(|| Mount { top: unescaped(top), at: unescaped(at).into() })
    }

    /// The groups with a limit, from that at `path` to the top.
    fn groups(&self, path: &str, version: Version, root: &Path) -> Vec<Group> {
        let top = self.at.strip_prefix("/").unwrap_or(&self.at);
        let top = root.join(top);
        // What is outside of our namespace, or above what is mounted, cannot be seen: then what is mounted is the least that we are in.
        let inside = path.strip_prefix(self.top.trim_end_matches('/')).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let inside = inside.filter(|rest| !rest.split('/').any(|part| part == "..")).unwrap_or_default();
        let folder = top.join(inside.trim_start_matches('/'));
        folder.ancestors().take_while(|folder| folder.starts_with(&top)).filter_map(|folder| Group::at(folder, version)).collect()
    }
}

/// Blanks and the like are written as `\040` there.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

impl Group {
    fn at(folder: &Path, version: Version) -> Option<Group> {
        let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        let limit = match version {
            // `max` is no number.
            Version::Two => number("memory.max"),
            // No limit is a number here, of about 2^63. What binds from above what we see is told, too.
            Version::One => {
                let own = number("memory.limit_in_bytes")?;
                let inherited =
                    value(&std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default(), "hierarchical_memory_limit");
                Some(own.min(inherited.unwrap_or(own)))
            }
        };
        limit.filter(|limit| *limit < 1 << 60).map(|limit| Group { folder: folder.to_owned(), version, limit })
    }

    fn usage(&self) -> Option<Usage> {
        let stat = std::fs::read_to_string(self.folder.join("memory.stat")).ok()?;
        let (anonymous, shared) = match self.version {
            Version::Two => ("anon", "shmem"),
            Version::One => ("total_rss", "total_shmem"),
        };
        let used = value(&stat, anonymous)? + value(&stat, shared).unwrap_or(0);
        Some(Usage { used, limit: self.limit })
    }
}

/// The value of a line `NAME VALUE`.
fn value(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system of files: path and content.
    fn system(files: &[(&str, &str)]) -> (tempfile::TempDir, Groups) {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let groups = Groups::under(root.path());
        (root, groups)
    }

    const TWO: (&str, &str) = ("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");

    fn limits(groups: &Groups) -> Vec<u64> {
        groups.limited.iter().map(|group| group.limit).collect()
    }

    #[test]
    fn the_limit_of_every_group_above_counts() {
        let (_root, groups) = system(&[
            TWO,
            ("proc/self/cgroup", "0::/user.slice/job\n"),
            ("sys/fs/cgroup/user.slice/job/memory.max", "max\n"),
            ("sys/fs/cgroup/user.slice/job/memory.stat", "anon 1000\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "50000\n"),
            ("sys/fs/cgroup/user.slice/memory.stat", "anon 40000\nfile 7\nshmem 500\n"),
            ("sys/fs/cgroup/memory.stat", "anon 99000\n"),
        ]);
        assert_eq!(limits(&groups), [50_000]);
        assert_eq!(groups.tightest(), Some(Usage { used: 40_500, limit: 50_000 }));
    }

    #[test]
    fn the_group_with_the_least_room_is_the_tightest_not_that_with_the_lowest_limit() {
        let (_root, groups) = system(&[
            TWO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "100\n"),
            ("sys/fs/cgroup/a/b/memory.stat", "anon 10\n"),
            ("sys/fs/cgroup/a/memory.max", "200\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 150\n"),
        ]);
        assert_eq!(limits(&groups), [100, 200]);
        assert_eq!(groups.tightest().map(Usage::room), Some(50));
    }

    #[test]
    fn version_one_has_a_number_for_no_limit_and_tells_what_binds_from_above() {
        let mounts = "35 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      41 31 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n36 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let free = "9223372036854771712\n";
        let (_root, groups) = system(&[
            ("proc/self/mountinfo", mounts),
            ("proc/self/cgroup", "4:memory:/job/step\n3:cpuset:/job\n0::/\n"),
            ("sys/fs/cgroup/memory/job/step/memory.limit_in_bytes", free),
            ("sys/fs/cgroup/memory/job/step/memory.stat", "rss 1\nhierarchical_memory_limit 6000\ntotal_rss 100\ntotal_shmem 20\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", free),
            ("sys/fs/cgroup/memory/memory.stat", "total_rss 100\n"),
        ]);
        assert_eq!(limits(&groups), [6000]);
        assert_eq!(groups.tightest(), Some(Usage { used: 120, limit: 6000 }));
    }

    /// Without a namespace of its own a container sees its group's whole path, but only what is mounted of it.
    #[test]
    fn what_is_mounted_may_be_a_part_of_the_hierarchy() {
        let mounts = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup ro\n";
        let files = |group: &'static str| {
            system(&[
                ("proc/self/mountinfo", mounts),
                ("proc/self/cgroup", group),
                ("sys/fs/cgroup/memory.max", "700\n"),
                ("sys/fs/cgroup/memory.stat", "anon 1\n"),
                ("sys/fs/cgroup/inner/memory.max", "600\n"),
            ])
        };
        assert_eq!(limits(&files("0::/docker/abc\n").1), [700]);
        assert_eq!(limits(&files("0::/docker/abc/inner\n").1), [600, 700]);
        assert_eq!(limits(&files("0::/docker/abcdef\n").1), [700], "another group, whose name begins alike");
        assert_eq!(limits(&files("0::/../elsewhere\n").1), [700], "moved out of the namespace");
    }

    #[test]
    fn places_with_blanks_and_systems_without_groups() {
        assert_eq!(unescaped(r"/a\040b\134c\x"), r"/a b\c\x");
        assert_eq!(system(&[]).1.tightest(), None);
        assert_eq!(system(&[TWO, ("proc/self/cgroup", "0::/gone\nnonsense\n")]).1.tightest(), None);
    }
}
