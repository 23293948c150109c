//! Files are their owner's alone, and nothing is written but what was named.

use super::{ROWS, contents, within};
use crate::support::cluster::{Cluster, Database};
use crate::support::program::{Folder, Ran, export, ran, sluicegate};
use insta::assert_snapshot;
use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::{Command, Stdio};

/// With a row for the dead letter.
fn database() -> Database<'static> {
    let options = "TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'";
    let database = Cluster::shared().fresh_database_with(options);
    database.psql(ROWS);
    database
}

/// Runs a command behind settings of the shell.
fn under(shell: &str, command: &Command) -> Ran {
    let mut outer = Command::new("sh");
    outer.args(["-c", &format!("{shell}; exec \"$@\""), "sh"]).arg(command.get_program()).args(command.get_args());
    crate::support::cluster::without_pg_environment(&mut outer);
    ran(outer.env_remove("DATABASE_URL").stdin(Stdio::null()))
}

#[track_caller]
fn assert_modes(folder: &Folder, names: &[&str], mode: u32, what: &str) {
    assert_eq!(folder.names(), names, "{what}");
    for name in names {
        let found = folder.join(name).metadata().unwrap().mode() & 0o777;
        assert_eq!(found, mode, "{what}: {name} has {found:o}");
    }
}

#[test]
fn every_file_has_the_mode_that_was_asked_for_whatever_the_umask() {
    let database = database();
    database.psql("CREATE TABLE big AS SELECT i AS id, repeat('x', 1000) AS pad FROM generate_series(1, 4000) i");
    // One that takes nothing away, and one that takes away what was asked for.
    for (umask, arguments, mode) in [("000", "", 0o600), ("077", "--mode 644", 0o644)] {
        let what = format!("umask {umask} {arguments}");
        let shell = format!("umask {umask}");
        let folder = Folder::new();
        let to = format!("--quiet --to {} {arguments}", folder.text("out.jsonl"));
        under(&shell, &export(&database, &format!("--table t {to}"))).expect(3);
        let names = ["out.jsonl", "out.jsonl.dead.jsonl", "out.jsonl.journal"];
        assert_modes(&folder, &names, mode, &what);
        // Cut off by the system in the middle: the dead letter's marks, and an export.
        let dead = folder.text("out.jsonl.dead.jsonl");
        let again = Folder::new();
        let mut replay = sluicegate();
        replay.args(["dlq", "replay", &dead, "--all", "--encoding", "latin1", "--to", &again.text("x.jsonl")]);
        assert_eq!(under(&format!("{shell}; ulimit -f 4"), &replay).code, None, "a file got too large, which ends it");
        assert_eq!(folder.join("out.jsonl.dead.jsonl.replay").metadata().unwrap().mode() & 0o777, 0o600, "{what}");
        replay.args(arguments.split_whitespace());
        under(&shell, &replay).expect(0);
        assert_modes(&folder, &names, mode, &format!("{what}, with marks"));
        assert_modes(&again, &["x.jsonl", "x.jsonl.journal"], mode, &format!("{what}, replayed"));
        let folder = Folder::new();
        let to = format!("--quiet --to {} {arguments}", folder.text("out.jsonl"));
        let cut_off = under(&format!("{shell}; ulimit -f 2000"), &export(&database, &format!("--table big --buffered {to}")));
        assert_eq!(cut_off.code, None, "a file got too large, which ends it: {}", cut_off.stderr);
        let names = ["out.jsonl.journal", "out.jsonl.journal-shm", "out.jsonl.journal-wal", "out.jsonl.partial"];
        assert_modes(&folder, &names, mode, &format!("{what}, cut off"));
    }
    let folder = Folder::new();
    under("umask 000", &export(&database, &format!("--table big --quiet --connections 2 --to {}", folder.text("{n}.jsonl")))).expect(0);
    assert_modes(&folder, &["0.jsonl", "1.jsonl", "N.jsonl.journal"], 0o600, "parts");
}

/// What an earlier run has left may have been made with another mode, be open elsewhere, or have a second name.
#[test]
fn a_run_that_begins_anew_writes_into_a_file_of_its_own() {
    let database = database();
    let folder = Folder::new();
    let partial = folder.join("out.jsonl.partial");
    std::fs::write(&partial, "left behind").unwrap();
    std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(0o666)).unwrap();
    std::fs::hard_link(&partial, folder.join("other.name")).unwrap();
    ran(&mut export(&database, &format!("--table t --quiet --to {}", folder.text("out.jsonl")))).expect(3);
    assert_eq!(folder.read("other.name"), "left behind");
    assert_eq!(folder.join("out.jsonl").metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn an_output_with_a_second_name_is_not_gone_on_with() {
    let database = database();
    database.psql("CREATE TABLE big AS SELECT i AS id, repeat('x', 1000) AS pad FROM generate_series(1, 8000) i");
    let folder = Folder::new();
    let command = export(&database, &format!("--table big --quiet --buffered --checkpoint-bytes 1MiB --to {}", folder.text("out.jsonl")));
    under("ulimit -f 8000", &command);
    std::fs::hard_link(folder.join("out.jsonl.partial"), folder.join("other.name")).unwrap();
    let before = std::fs::read(folder.join("other.name")).unwrap();
    let refused = under("true", &command).expect(78);
    assert_snapshot!(within(&refused.stderr, &folder), @"error: [dir]/out.jsonl.partial has another name (a hard link), under which it would change as well; replace it by a copy of itself");
    assert_eq!(std::fs::read(folder.join("other.name")).unwrap(), before);
    std::fs::remove_file(folder.join("other.name")).unwrap();
    under("true", &command).expect(0);
    assert_eq!(folder.read("out.jsonl").lines().count(), 8000);
}

/// Every name that an export writes under, taken by every kind of link: nothing elsewhere is made, changed or emptied.
#[test]
fn links_are_not_followed() {
    let database = database();
    let mut told = String::new();
    let kinds = ["to nothing", "to a file", "to an empty file", "to a directory", "hard", "a pipe"];
    for name in [".partial", "", ".journal", ".journal-wal", ".journal-shm", ".dead.jsonl", ".dead.jsonl.partial"] {
        for kind in kinds {
            if kind == "to an empty file" && name != ".journal" {
                continue;
            }
            let (folder, elsewhere) = (Folder::new(), Folder::new());
            let place = folder.join(&format!("out.jsonl{name}"));
            std::fs::write(elsewhere.join("file"), "theirs").unwrap();
            std::fs::write(elsewhere.join("empty"), "").unwrap();
            std::fs::create_dir(elsewhere.join("folder")).unwrap();
            match kind {
                "to nothing" => symlink(elsewhere.join("nothing"), &place).unwrap(),
                "to a file" => symlink(elsewhere.join("file"), &place).unwrap(),
                "to an empty file" => symlink(elsewhere.join("empty"), &place).unwrap(),
                "to a directory" => symlink(elsewhere.join("folder"), &place).unwrap(),
                "hard" => std::fs::hard_link(elsewhere.join("file"), &place).unwrap(),
                // As an output it is a stream, which is another test.
                _ if name.is_empty() => continue,
                _ => assert!(Command::new("mkfifo").arg(&place).status().unwrap().success()),
            }
            let (names, before) = (elsewhere.names(), contents(elsewhere.path()));
            let force = if ["", ".dead.jsonl"].contains(&name) && kind != "hard" { "--force" } else { "" };
            let words = format!("--table t --quiet --give-up-after 0s {force} --to {}", folder.text("out.jsonl"));
            let ran = ran(&mut export(&database, &words));
            assert_eq!((elsewhere.names(), contents(elsewhere.path())), (names, before), "{name} {kind}: {}", ran.stderr);
            assert_eq!(std::fs::read_dir(elsewhere.join("folder")).unwrap().count(), 0, "{name} {kind}");
            let says = within(ran.stderr.lines().next().unwrap_or("nothing to say"), &folder)
                .replace(elsewhere.path().to_str().unwrap(), "[elsewhere]");
            let _ = writeln!(told, "out.jsonl{name}, {kind}: {} {says}", ran.code.expect("it ends by itself"));
        }
    }
    assert_snapshot!(told);
}

#[test]
fn a_pipe_that_has_a_name_is_a_stream() {
    let database = database();
    let folder = Folder::new();
    assert!(Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
    let pipe = folder.join("pipe");
    let reader = std::thread::spawn(move || std::fs::read_to_string(pipe).expect("UTF-8"));
    let words = format!("--table t --where id=1 --quiet --to {}", folder.text("pipe"));
    ran(&mut export(&database, &words)).expect(0);
    assert_eq!(reader.join().unwrap().lines().count(), 1);
    assert_eq!(folder.names(), ["pipe"], "no other file is made beside it");
}
