//! Bad input: a clear error, the right exit code, and nothing written.

use crate::support::cluster::{Cluster, Database};
use crate::support::program::{Folder, export, ran, run, shown, sluicegate};
use insta::assert_snapshot;

/// A database with one small table.
fn database() -> Database<'static> {
    let database = Cluster::shared().fresh_database();
    database.psql("CREATE TABLE orders AS SELECT i AS id, 'customer ' || i AS customer FROM generate_series(1, 10) i; CREATE TABLE customers (id int)");
    database
}

/// What the program says to these arguments, which must end it with this code and leave nothing behind.
#[track_caller]
fn refused(database: &Database<'_>, words: &[&str], code: i32) -> String {
    let folder = Folder::new();
    let to = folder.text("out.jsonl");
    let mut command = export(database, "");
    if !words.contains(&"--to") {
        command.args(["--to", &to]);
    }
    let ran = ran(command.args(words)).expect(code);
    assert_eq!(folder.names(), [] as [&str; 0], "something was left behind");
    assert_eq!(ran.text(), "");
    shown(&ran.stderr, &folder, database)
}

#[test]
fn unreachable_servers_and_wrong_credentials() {
    let (database, folder) = (database(), Folder::new());
    let to = folder.text("out.jsonl");
    let says =
        |from: &str, code| shown(&run(["export", "--from", from, "--table", "t", "--to", &to]).expect(code).stderr, &folder, &database);
    assert_snapshot!(says("postgres://me@127.0.0.1:1/db", 69), @"
    error: cannot reach Postgres at 127.0.0.1:1: is the server running and accepting connections there?
      because: Connection refused (os error 111)
    ");
    assert_snapshot!(says("host=/nowhere user=me", 69), @"
    error: cannot reach Postgres at /nowhere/.s.PGSQL.5432: is the server running and accepting connections there?
      because: No such file or directory (os error 2)
    ");
    assert_snapshot!(says(&format!("host=127.0.0.1 port={} user=nobody_here dbname={}", Cluster::shared().port(), database.name()), 69), @r#"
    error: Postgres at 127.0.0.1:[port] does not let user `nobody_here` in; does the role exist, and does pg_hba.conf let it in from here?
      because: FATAL 28000: role "nobody_here" does not exist
    "#);
    assert_snapshot!(says(&format!("host=127.0.0.1 port={} user=postgres dbname=no_such_database", Cluster::shared().port()), 69), @r#"
    error: Postgres at 127.0.0.1:[port] has no database `no_such_database`
      because: FATAL 3D000: database "no_such_database" does not exist
    "#);
    assert_snapshot!(says("postgres://me@host/db?sslmod=require", 78), @"error: connection string, column 23: unknown key `sslmod`; did you mean `sslmode`?");
    assert_eq!(folder.names(), [] as [&str; 0]);
}

#[test]
fn tables_that_do_not_exist_or_may_not_be_read() {
    let database = database();
    assert_snapshot!(refused(&database, &["--table", "ordres"], 78), @"error: no table matches `ordres` in database [db] (as role postgres); did you mean `orders`?");
    assert_snapshot!(refused(&database, &["--table", "sales.*"], 78), @"error: no table matches `sales.*` in database [db] (as role postgres)");
    assert_snapshot!(refused(&database, &["--table", "elsewhere.public.orders"], 78), @"error: `elsewhere.public.orders` is in the database elsewhere, and the connection is to [db]");
    assert_snapshot!(refused(&database, &["--table", "\"orders"], 78), @r#"error: `"orders` is no table name or pattern: a quote is never closed"#);
    assert_snapshot!(refused(&database, &["--table", "orders", "--columns", "id,custmer"], 78), @"error: --columns: orders has no column `custmer`; did you mean `customer`?");
    assert_snapshot!(refused(&database, &["--table", "orders", "--columns", "id,,x"], 78), @"error: --columns: a column name is missing");
    assert_snapshot!(refused(&database, &["--table", "orders", "--where", "customr = 'x'"], 78), @r#"error: cannot use --where: column "customr" does not exist; Perhaps you meant to reference the column "orders.customer"."#);
    assert_snapshot!(refused(&database, &["--table", "orders", "--where", "id = 1) OR (true"], 78), @r#"error: cannot use --where: syntax error at or near ")""#);
    assert_snapshot!(refused(&database, &["--query", "TABLE orders", "--where", "id = 1) OR (true"], 78), @r#"error: cannot use --where: syntax error at or near ")""#);
    assert_snapshot!(refused(&database, &["--table", "orders", "--where", "id > 1", "--order-by", "custmer"], 78), @r#"error: cannot use --order-by: column "custmer" does not exist; Perhaps you meant to reference the column "orders.customer"."#);
    assert_snapshot!(refused(&database, &["--query", "TABLE orders", "--order-by", "id DESC, c9"], 78), @r#"error: cannot use --order-by: column "c9" does not exist"#);
    assert_snapshot!(refused(&database, &["--table", "orders", "--where", " "], 78), @"error: --where: the condition is empty");
    assert_snapshot!(refused(&database, &["--query", "SELECT 1; DROP TABLE orders"], 78), @"error: cannot use --query: cannot insert multiple commands into a prepared statement");
    assert_snapshot!(refused(&database, &["--query", "SELEC 1"], 78), @r#"error: cannot use --query: syntax error at or near "SELEC""#);
    assert_snapshot!(refused(&database, &["--query", "DELETE FROM orders"], 78), @r#"error: cannot use --query: syntax error at or near "FROM""#);
    assert_snapshot!(refused(&database, &["--table", "*"], 78), @"error: 2 tables go to one output; put {table} into --to, like 'dir/{table}.jsonl'");
}

#[test]
fn privileges_are_asked_for_before_anything_is_read() {
    let (database, folder) = (database(), Folder::new());
    let role = format!("reader_{}", database.name());
    database.psql(&format!("CREATE ROLE {role} LOGIN; GRANT SELECT (id) ON orders TO {role}"));
    let from = format!("host=127.0.0.1 port={} dbname={} user={role}", Cluster::shared().port(), database.name());
    let says = |table: &str| {
        let ran = run(["export", "--from", &from, "--table", table, "--to", &folder.text("out.jsonl")]).expect(78);
        shown(&ran.stderr, &folder, &database)
    };
    assert_snapshot!(says("customers"), @"error: role reader_[db] has no SELECT privilege on customers; GRANT it, or connect as another role");
    assert_snapshot!(says("orders"), @"error: role reader_[db] may not read the columns customer of orders; name the others with --columns");
    run(["export", "--quiet", "--from", &from, "--table", "orders", "--columns", "id", "--to", &folder.text("ids.jsonl")]).expect(0);
    assert_eq!(folder.read("ids.jsonl").lines().count(), 10);
}

#[test]
fn definitions_that_are_none_or_invoke_what_the_exporter_lacks() {
    let (database, folder) = (database(), Folder::new());
    let says = |text: &str| {
        std::fs::write(folder.join("machine.json"), text).unwrap();
        let ran = ran(export(&database, "--table orders").args([
            "--to",
            &folder.text("out.jsonl"),
            "--definition",
            &folder.text("machine.json"),
        ]));
        let ran = ran.expect(78);
        assert_eq!(folder.names(), ["machine.json"]);
        shown(&(ran.text().to_owned() + &ran.stderr), &folder, &database)
    };
    assert_snapshot!(says("not json"), @"
    [dir]/machine.json:1:2: E syntax: expected ident
    error: [dir]/machine.json cannot be run; `sluicegate check --for-export [dir]/machine.json` shows the same
    ");
    assert_snapshot!(says("[1, 2]"), @"
    [dir]/machine.json:1:1: E wrong-type: an object is needed here, not a list
    error: [dir]/machine.json cannot be run; `sluicegate check --for-export [dir]/machine.json` shows the same
    ");
    assert_snapshot!(says(r#"{ "id": "m", "initial": "a", "states": {
  "a": { "invoke": { "src": "tranform", "onDone": "b", "onError": "c" } },
  "b": { "invoke": { "src": "sink", "onDone": "d", "onEror": "c" } },
  "c": { "type": "final" }, "d": { "type": "final" } } }"#), @"
    [dir]/machine.json:1:1: E unused-handler: no state invokes `transform`, which the program requires
    [dir]/machine.json:2:29: E unknown-handler states.a.invoke.src: unknown handler `tranform`; did you mean `transform`?
    [dir]/machine.json:3:52: E unknown-key states.b.invoke.onEror: unknown key `onEror` in an invocation; did you mean `onError`?
    error: [dir]/machine.json cannot be run; `sluicegate check --for-export [dir]/machine.json` shows the same
    ");
    let missing = ran(export(&database, "--table orders --definition /nowhere.json").args(["--to", &folder.text("out.jsonl")])).expect(78);
    assert_snapshot!(missing.stderr, @"
    error: /nowhere.json cannot be read
      because: No such file or directory (os error 2)
    ");
    let bare = r#"{ "id": "m", "initial": "a", "states": {
        "a": { "invoke": { "src": "transform", "onDone": "b", "onError": "d" }, "after": { "1000": "d" } },
        "b": { "invoke": { "src": "sink", "onDone": "c", "onError": "d" } }, "c": { "type": "final" }, "d": { "type": "final" } } }"#;
    std::fs::write(folder.join("machine.json"), bare).unwrap();
    let words = ["--to", &folder.text("out.jsonl"), "--definition", &folder.text("machine.json")];
    let attempts = ran(export(&database, "--table orders --max-attempts 3").args(words)).expect(78);
    assert_snapshot!(attempts.stderr, @"error: the definition's context has no `maxAttempts` that could be set");
}

#[test]
fn outputs_that_cannot_be_written() {
    let (database, folder) = (database(), Folder::new());
    let to = |path: &str, code| {
        let ran = ran(export(&database, "--table orders").args(["--to", path])).expect(code);
        shown(&ran.stderr, &folder, &database)
    };
    assert_snapshot!(to(&folder.text("missing/out.jsonl"), 74), @"error: the directory [dir]/missing does not exist");
    assert_snapshot!(to(&folder.text(""), 78), @"error: --to [dir]/ is a directory; name a file in it, like [dir]/{table}.jsonl");
    assert_snapshot!(to("", 78), @"error: --to is empty; give a file, or - for standard output");
    let aside = ["--to", &folder.text("out.jsonl"), "--dead-letter", &folder.text("missing/dead.jsonl")];
    let ran_aside = ran(export(&database, "--table orders").args(aside)).expect(74);
    assert_snapshot!(shown(&ran_aside.stderr, &folder, &database), @"error: the directory [dir]/missing of --dead-letter does not exist");
    assert_snapshot!(to(&folder.text("{tabel}.jsonl"), 78), @"error: --to [dir]/{tabel}.jsonl: {tabel} is unknown; there are {table}, {schema} and {n}");
    std::fs::write(folder.join("taken.jsonl"), "mine").unwrap();
    assert_snapshot!(to(&folder.text("taken.jsonl"), 78), @"error: [dir]/taken.jsonl exists; give another output, or --force to replace it");
    assert_eq!(folder.read("taken.jsonl"), "mine");
    std::os::unix::fs::symlink("elsewhere", folder.join("link.jsonl.partial")).unwrap();
    assert_snapshot!(to(&folder.text("link.jsonl"), 74), @"
    error: [dir]/link.jsonl.partial is a symbolic link, which is not followed; remove it
      because: Too many levels of symbolic links (os error 40)
    ");
    assert_snapshot!(refused(&database, &["--table", "orders", "--table", "customers"], 78), @"error: 2 tables go to one output; put {table} into --to, like 'dir/{table}.jsonl'");
    ran(export(&database, "--table orders --quiet --force").args(["--to", &folder.text("taken.jsonl")])).expect(0);
    assert_eq!(folder.read("taken.jsonl").lines().count(), 10);
}

/// Root may write everywhere, so this runs as somebody else if need be.
#[test]
fn a_directory_that_is_not_writable() {
    let (database, folder) = (database(), Folder::new());
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
    let mut command = export(&database, "--table orders");
    command.args(["--to", &folder.text("out.jsonl")]);
    crate::support::cluster::as_unprivileged(&mut command);
    let ran = ran(&mut command).expect(74);
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_snapshot!(shown(&ran.stderr, &folder, &database), @"
    error: the directory [dir] is not writable for this user
      because: Permission denied (os error 13)
    ");
    assert_eq!(folder.names(), [] as [&str; 0]);
}

#[test]
fn nonsense_on_the_command_line() {
    let database = database();
    let mut says = String::new();
    for (words, code) in [
        (&["--table", "orders", "--memory-limit", "lots"][..], 2),
        (&["--table", "orders", "--chunk-bytes", "-1"], 2),
        (&["--table", "orders", "--workers", "0"], 2),
        (&["--table", "orders", "--compress", "lzma"], 2),
        (&["--table", "orders", "--compress", "gzip:10"], 2),
        (&["--table", "orders", "--query", "SELECT 1"], 2),
        (&["--tabel", "orders"], 2),
        (&["--table", "orders", "--give-up-after", "soon"], 2),
        (&["--table", "orders", "--mode", "rw"], 2),
    ] {
        let text = refused(&database, words, code);
        let first = text.lines().next().unwrap();
        says.push_str(&format!("{}\n    {first}\n", words.join(" ")));
    }
    assert_snapshot!(says, @"
    --table orders --memory-limit lots
        error: invalid value 'lots' for '--memory-limit <SIZE>': `lots` is no unit; sizes are written like 64MiB, 512KiB, 1GB or 1048576
    --table orders --chunk-bytes -1
        error: unexpected argument '-1' found
    --table orders --workers 0
        error: invalid value '0' for '--workers <N>': 0 is not in 1..=65535
    --table orders --compress lzma
        error: invalid value 'lzma' for '--compress <METHOD>': `lzma` is no method; there are none, gzip and zstd, each with a level behind a colon if you like
    --table orders --compress gzip:10
        error: invalid value 'gzip:10' for '--compress <METHOD>': the level of gzip goes from 1 to 9
    --table orders --query SELECT 1
        error: the argument '--table <NAME>' cannot be used with '--query <SQL>'
    --tabel orders
        error: unexpected argument '--tabel' found
    --table orders --give-up-after soon
        error: invalid value 'soon' for '--give-up-after <TIME>': expected number at 0; durations are written like 30s, 500ms, 5m or 1h 30m
    --table orders --mode rw
        error: invalid value 'rw' for '--mode <MODE>': `rw` is no mode; write 600 or 644
    ");
    assert_snapshot!(refused(&database, &["--table", "orders", "--memory-limit", "1MiB", "--workers", "2", "--connections", "2"], 78), @"error: --memory-limit 1.0 MiB is less than the 5.5 MiB that 2 connections, 2 workers and chunks of 256.0 KiB need; allow more, or take fewer connections and workers or smaller chunks");
}

#[test]
fn help_and_version_are_there() {
    for command in ["export", "inspect", "check", "completions"] {
        let help = run([command, "--help"]).expect(0);
        assert!(help.text().contains("Example"), "{command} --help has no example");
    }
    assert!(run(["--version"]).expect(0).text().starts_with("sluicegate "));
    assert!(run(["completions", "bash"]).expect(0).text().contains("_sluicegate"));
    assert_eq!(sluicegate().output().unwrap().status.code(), Some(2));
}

#[test]
fn files_that_two_would_write() {
    let database = database();
    let folder = Folder::new();
    let says = |words: &str| {
        let ran = ran(&mut export(&database, &words.replace("DIR", folder.path().to_str().unwrap()))).expect(78);
        assert_eq!(folder.names(), [] as [&str; 0]);
        shown(&ran.stderr, &folder, &database)
    };
    let two = "--table orders --table customers --to DIR/{table}.jsonl";
    assert_snapshot!(says(&format!("{two} --journal DIR/one.journal")), @"error: 2 tables cannot share --journal [dir]/one.journal; leave it out, and each gets its own beside its output");
    assert_snapshot!(says(&format!("{two} --dead-letter DIR/dead.jsonl")), @"error: 2 tables cannot share --dead-letter [dir]/dead.jsonl; leave it out, and each gets its own beside its output");
    assert_snapshot!(says("--table orders --to DIR/o.jsonl --journal DIR/o.jsonl"), @"error: --journal [dir]/o.jsonl is written otherwise already; give another");
}

/// `--fresh` gives up a journal, and nothing else.
#[test]
fn fresh_removes_nothing_that_is_no_journal() {
    let database = database();
    let folder = Folder::new();
    std::fs::write(folder.join("letters.txt"), "dear").unwrap();
    let other = rusqlite::Connection::open(folder.join("shop.db")).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    drop(other);
    for name in ["letters.txt", "shop.db"] {
        let before = std::fs::read(folder.join(name)).unwrap();
        let words = format!("--table orders --to {} --fresh --force --journal {}", folder.text("o.jsonl"), folder.text(name));
        let ran = ran(&mut export(&database, &words)).expect(78);
        assert!(ran.stderr.contains("is not a journal, and is not replaced"), "{}", ran.stderr);
        assert_eq!(before, std::fs::read(folder.join(name)).unwrap());
        assert_eq!(folder.names(), ["letters.txt", "shop.db"]);
    }
}

/// A definition that leads to the sink past the encoder: nothing half-made is written.
#[test]
fn a_way_around_the_encoder() {
    let database = database();
    let folder = Folder::new();
    let definition = r#"{ "id": "m", "initial": "a", "context": { "tries": 0 }, "states": {
        "a": { "entry": { "type": "fsm.assign", "params": { "tries": { "$inc": 1 } } },
               "always": { "guard": { "type": "fsm.eq", "params": { "key": "tries", "value": 1 } }, "target": "c" },
               "invoke": { "src": "transform", "onDone": "c", "onError": "f" } },
        "c": { "invoke": { "src": "sink", "onDone": "d", "onError": "f" } },
        "d": { "type": "final" }, "f": { "type": "final", "tags": ["error"] } } }"#;
    std::fs::write(folder.join("machine.json"), definition).unwrap();
    let words = format!("--table orders --quiet --to {} --definition {}", folder.text("o.jsonl"), folder.text("machine.json"));
    let ran = ran(&mut export(&database, &words)).expect(78);
    assert_snapshot!(shown(&ran.stderr, &folder, &database), @"error: chunk 0.0 comes to the sink as it was read: the definition leads there past the handler that encodes");
    assert!(!folder.join("o.jsonl").exists());
}

#[test]
fn an_output_that_exists_stops_all_tables_before_the_first() {
    let (database, folder) = (database(), Folder::new());
    std::fs::write(folder.join("orders.jsonl"), "mine").unwrap();
    let words = ["--to", &folder.text("{table}.jsonl")];
    let ran = ran(export(&database, "--table customers --table orders").args(words)).expect(78);
    assert_snapshot!(shown(&ran.stderr, &folder, &database), @"error: [dir]/orders.jsonl exists; give another output, or --force to replace it");
    assert_eq!(folder.names(), ["orders.jsonl"]);
}
