//! A real Postgres for tests: private, throwaway, gone when the test process is.
//!
//! Each cluster has a small shell process that is the parent of its server and waits on a pipe from us. The pipe ends
//! when this process ends, however it ends; then the shell stops the server and removes the directory. So statics that
//! never drop, panics, `process::exit` and SIGKILL leave nothing behind. The shell has a process group of its own, so
//! that Ctrl-C does not take it first.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a server may take to start or stop, in a slow build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `$1` is the server program, `$2` the directory, the rest makes the cluster. Reads one command a line; ends with its
/// input.
const SUPERVISOR: &str = r#"
server="$1"; dir="$2"; shift 2; pid=
while read -r command; do
    case "$command" in
        init)   if "$@" >>"$dir/log" 2>&1 </dev/null; then : >"$dir/made"; else : >"$dir/not-made"; fi ;;
        start)  "$server" -D "$dir/data" >>"$dir/log" 2>&1 </dev/null & pid=$! ;;
        stop)   kill -INT "$pid"; wait "$pid" ;;
        crash)  kill -QUIT "$pid"; wait "$pid" ;;
        reload) kill -HUP "$pid" ;;
    esac
done
if [ -n "$pid" ]; then kill -QUIT "$pid"; wait "$pid"; fi
rm -rf "$dir"
"#;

/// A server with its directory.
pub struct Cluster {
    dir: PathBuf,
    port: u16,
    supervisor: Mutex<Child>,
}

/// What a test wants different. Superuser `postgres`; by default everybody is trusted.
#[derive(Default)]
pub struct Options<'a> {
    /// Lines for `postgresql.conf`; they win over the ones here.
    pub conf: &'a [&'a str],
    /// Lines for `pg_hba.conf`, instead of trusting everybody. Superusers are let in over the socket in any case.
    pub hba: &'a [&'a str],
    /// Turns TLS on.
    pub tls: Option<TlsFiles<'a>>,
}

/// Files in PEM form.
#[derive(Clone, Copy)]
pub struct TlsFiles<'a> {
    /// The server's certificate, and intermediate ones.
    pub certificate: &'a Path,
    /// Its key.
    pub key: &'a Path,
    /// The roots that client certificates must be signed by.
    pub client_roots: Option<&'a Path>,
}

impl Cluster {
    /// The cluster that tests of this process share, each with a [`fresh_database`](Cluster::fresh_database).
    pub fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Cluster::start(&Options::default()))
    }

    /// Makes a cluster and starts it. About one second.
    ///
    /// # Panics
    /// If there is no Postgres here, or it does not start: with what it said.
    pub fn start(options: &Options<'_>) -> Cluster {
        let initdb = |dir: &Path, command: &mut Command| {
            command.arg(program("initdb")).arg("-D").arg(dir.join("data"));
            command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        };
        Cluster::make(options, initdb)
    }

    /// A physical clone of this cluster, with a server of its own: a standby that follows this one. About two seconds.
    ///
    /// # Panics
    /// If it cannot be made, or does not start.
    pub fn standby(&self, conf: &[&str]) -> Cluster {
        let backup = |dir: &Path, command: &mut Command| {
            command.arg(program("pg_basebackup")).arg("-D").arg(dir.join("data"));
            command.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-d", &self.socket_conninfo()]);
        };
        Cluster::make(&Options { conf, ..Options::default() }, backup)
    }

    /// `init` adds the command that makes the data directory.
    fn make(options: &Options<'_>, init: impl FnOnce(&Path, &mut Command)) -> Cluster {
        let dir = tempfile::Builder::new().prefix("sluicegate-pg").tempdir().expect("no directory for a cluster").keep();
        give_away(&dir);
        let mut supervisor = unprivileged("sh");
        supervisor.args(["-c", SUPERVISOR, "supervisor"]).arg(program("postgres")).arg(&dir);
        init(&dir, &mut supervisor);
        supervisor.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // From here on the directory is taken care of.
        let supervisor = Mutex::new(supervisor.spawn().expect("no shell"));
        let mut cluster = Cluster { dir, port: 0, supervisor };
        cluster.initialise(options);
        // Somebody else may be given the same free port before we use it.
        for _ in 0..5 {
            cluster.port = free_port();
            cluster.write("data/port.conf", &format!("port = {}\n", cluster.port));
            match cluster.try_start() {
                Ok(()) => return cluster,
                Err(log) if log.contains("could not bind") => {}
                Err(log) => panic!("Postgres does not start:\n{log}"),
            }
        }
        panic!("no free port for Postgres");
    }

    fn initialise(&self, options: &Options<'_>) {
        fs::create_dir(self.dir.join("socket")).expect("no socket directory");
        give_away(&self.dir.join("socket"));
        self.command("init");
        self.wait("make a cluster", || self.dir.join("made").exists() || self.dir.join("not-made").exists());
        assert!(self.dir.join("made").exists(), "{}", self.log());
        let mut conf = vec![
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("unix_socket_directories = '{}'", self.dir.join("socket").display()),
            "include = 'port.conf'".to_owned(),
            "fsync = off\nsynchronous_commit = off\nfull_page_writes = off".to_owned(),
            "shared_buffers = '32MB'\nmax_wal_size = '1GB'\nautovacuum = off\nmax_prepared_transactions = 5".to_owned(),
        ];
        if let Some(files) = options.tls {
            self.copy_tls(files);
            conf.push("ssl = on".to_owned());
            if files.client_roots.is_some() {
                conf.push("ssl_ca_file = 'roots.crt'".to_owned());
            }
        }
        conf.extend(options.conf.iter().map(ToString::to_string));
        self.write("data/postgresql.conf", &(conf.join("\n") + "\n"));
        let everybody = ["local all all trust", "host all all 127.0.0.1/32 trust"];
        let hba = if options.hba.is_empty() { &everybody[..] } else { options.hba };
        self.write("data/pg_hba.conf", &format!("local all,replication postgres trust\n{}\n", hba.join("\n")));
    }

    /// Over TCP, as superuser, to the database `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    fn url_of(&self, dbname: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{dbname}", self.port)
    }

    /// Over the Unix socket, as superuser, to the database `postgres`.
    pub fn socket_conninfo(&self) -> String {
        self.socket_conninfo_of("postgres")
    }

    fn socket_conninfo_of(&self, dbname: &str) -> String {
        format!("host={} port={} user=postgres dbname={dbname}", self.socket_dir().display(), self.port)
    }

    /// The port, on 127.0.0.1 and of the socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the socket is.
    pub fn socket_dir(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// Removed with the cluster; plain files of a test may live in it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Runs statements as superuser in the database `postgres` and returns what `psql -At` prints, without the last line feed.
    ///
    /// # Panics
    /// If one fails.
    pub fn psql(&self, sql: &str) -> String {
        self.psql_in("postgres", sql)
    }

    fn psql_in(&self, dbname: &str, sql: &str) -> String {
        let mut psql = Command::new(program("psql"));
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-f", "-", "-d", &self.socket_conninfo_of(dbname)]);
        without_pg_environment(&mut psql);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = psql.spawn().expect("no psql");
        child.stdin.take().expect("piped").write_all(sql.as_bytes()).expect("psql does not read");
        let output = child.wait_with_output().expect("psql is lost");
        assert!(output.status.success(), "psql: {sql}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim_end_matches('\n').to_owned()
    }

    /// A database of its own for one test.
    pub fn fresh_database(&self) -> Database<'_> {
        self.fresh_database_with("")
    }

    /// The same, created with these options.
    pub fn fresh_database_with(&self, options: &str) -> Database<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.psql(&format!("CREATE DATABASE {name} {options}"));
        Database { cluster: self, name }
    }

    /// A database that is there, as on a standby.
    pub fn database(&self, name: &str) -> Database<'_> {
        Database { cluster: self, name: name.to_owned() }
    }

    /// Waits until this standby has replayed everything that `primary` has written.
    pub fn catch_up_with(&self, primary: &Cluster) {
        let written = primary.psql("SELECT pg_current_wal_insert_lsn()");
        self.wait("catch up", || self.psql(&format!("SELECT pg_last_wal_replay_lsn() >= '{written}'")) == "t");
    }

    /// Has this standby stop replaying, and says where it stands then.
    pub fn stand_still(&self) -> String {
        self.psql("SELECT pg_wal_replay_pause()");
        self.wait("pause", || self.psql("SELECT pg_get_wal_replay_pause_state()") == "paused");
        self.psql("SELECT pg_last_wal_replay_lsn()")
    }

    /// Stops the server, ending all connections; the directory stays.
    pub fn stop(&self) {
        self.command("stop");
        self.wait("stop", || !self.pid_file().exists());
    }

    /// Stops the server as a crash would: it recovers at the next start.
    pub fn crash(&self) {
        self.command("crash");
        self.wait("stop", || !self.pid_file().exists());
    }

    /// Starts a stopped server on the same port.
    ///
    /// # Panics
    /// If it does not start: with what it said.
    pub fn start_again(&self) {
        if let Err(log) = self.try_start() {
            panic!("Postgres does not start:\n{log}");
        }
    }

    /// Has the server show another certificate from now on.
    pub fn install_tls(&self, files: TlsFiles<'_>) {
        self.copy_tls(files);
        self.reload();
    }

    /// Has the server read its configuration again, and waits until it has.
    pub fn reload(&self) {
        let loaded = || self.psql("SELECT pg_conf_load_time()");
        let before = loaded();
        self.command("reload");
        self.wait("reload", || loaded() != before);
    }

    /// Writes a file into the directory, readable by the server alone.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.dir.join(name);
        fs::write(&path, content).expect("cannot write into the cluster");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("cannot set permissions");
        give_away(&path);
    }

    fn copy_tls(&self, files: TlsFiles<'_>) {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.write("data/server.crt", &read(files.certificate));
        self.write("data/server.key", &read(files.key));
        if let Some(roots) = files.client_roots {
            self.write("data/roots.crt", &read(roots));
        }
    }

    /// `Err` with the log if the server gives up.
    fn try_start(&self) -> Result<(), String> {
        let seen = self.log().len();
        self.command("start");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = fs::read_to_string(self.pid_file()).unwrap_or_default();
            if state.lines().nth(7).is_some_and(|line| ["ready", "standby"].contains(&line.trim())) {
                return Ok(());
            }
            let log = self.log().split_off(seen);
            // Clients that come too early are told so, which is no failure of the start.
            let failed = log.lines().any(|line| line.contains("FATAL") && !line.contains("the database system is"));
            if failed || Instant::now() > deadline {
                return Err(log);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("data/postmaster.pid")
    }

    fn command(&self, command: &str) {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = supervisor.stdin.as_mut().expect("piped");
        writeln!(pipe, "{command}").expect("the supervisor is gone");
    }

    fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < deadline, "Postgres does not {what}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let supervisor = self.supervisor.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(supervisor.stdin.take());
        let _ = supervisor.wait();
    }
}

/// A database of a cluster. It stays until the cluster goes.
pub struct Database<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl Database<'_> {
    /// Its name, which needs no quotes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Over TCP, as superuser.
    pub fn url(&self) -> String {
        self.cluster.url_of(&self.name)
    }

    /// Over the Unix socket, as superuser.
    pub fn socket_conninfo(&self) -> String {
        self.cluster.socket_conninfo_of(&self.name)
    }

    /// Like [`Cluster::psql`], in this database.
    pub fn psql(&self, sql: &str) -> String {
        self.cluster.psql_in(&self.name, sql)
    }
}

/// A program of the newest Postgres that is installed where Debian puts them, else of PATH.
pub fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let with_number = versions.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())));
    let installed = with_number.map(|(version, dir)| (version, dir.join("bin").join(name))).filter(|(_, path)| path.exists());
    installed.max().map_or_else(|| PathBuf::from(name), |(_, path)| path)
}

/// Tests must not depend on who runs them.
pub fn without_pg_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
}

/// Has `command` run as an unprivileged user, if we are root.
pub fn as_unprivileged(command: &mut Command) {
    if let Some(user) = server_user() {
        command.uid(user.uid).gid(user.gid);
    }
}

/// As a user that Postgres does not refuse to run as.
fn unprivileged(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    without_pg_environment(&mut command);
    if let Some(user) = server_user() {
        command.uid(user.uid).gid(user.gid);
    }
    command.current_dir("/");
    command
}

fn give_away(path: &Path) {
    if let Some(user) = server_user() {
        chown(path, Some(user.uid), Some(user.gid)).expect("cannot give a file to the server's user");
    }
}

#[derive(Clone, Copy)]
struct ServerUser {
    uid: u32,
    gid: u32,
}

/// `None` unless we are root.
fn server_user() -> Option<ServerUser> {
    static USER: OnceLock<Option<ServerUser>> = OnceLock::new();
    *USER.get_or_init(|| {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").expect("no list of users");
        let find = |name: &str| {
            let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)?;
            Some(ServerUser { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
        };
        Some(find("postgres").or_else(|| find("nobody")).expect("no user to run Postgres as"))
    })
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("no free port");
    listener.local_addr().expect("an address").port()
}
