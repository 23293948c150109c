//! What a connection string is read against: environment, home directory, system user, well-known directories.

use std::path::{Path, PathBuf};

use super::error::{ConnInfoError, Origin};

/// The world around a connection string, so that tests can bring their own.
pub struct Surroundings<'a> {
    /// Looks an environment variable up.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The home directory: `.pgpass`, `.pg_service.conf` and `.postgresql` are looked for in it.
    pub home: Option<PathBuf>,
    /// The name of the system user: the default for `user`.
    pub os_user: Option<String>,
    /// Where servers put their sockets, in the order in which to look.
    pub socket_dirs: Vec<PathBuf>,
    /// Where `pg_service.conf` may be besides the home directory, unless `PGSYSCONFDIR` says.
    pub sysconf_dirs: Vec<PathBuf>,
}

impl Surroundings<'static> {
    /// Those of this process.
    #[must_use]
    pub fn process() -> Surroundings<'static> {
        Surroundings {
            env: &|name| std::env::var(name).ok(),
            home: std::env::home_dir(),
            os_user: whoami::username().ok(),
            socket_dirs: ["/var/run/postgresql", "/tmp"].map(PathBuf::from).into(),
            // Debian's build, Red Hat's build, and the default of the sources.
            sysconf_dirs: ["/etc/postgresql-common", "/etc/sysconfig/pgsql", "/usr/local/pgsql/etc"].map(PathBuf::from).into(),
        }
    }
}

impl Surroundings<'_> {
    pub(super) fn env(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    /// `name` under the home directory.
    pub(super) fn in_home(&self, name: &str) -> Option<PathBuf> {
        self.home.as_deref().filter(|home| *home != Path::new("")).map(|home| home.join(name))
    }

    pub(super) fn os_user(&self) -> Result<String, ConnInfoError> {
        let name = self.os_user.clone().filter(|name| !name.is_empty());
        name.ok_or_else(|| ConnInfoError::new(Origin::System, "the system user has no name to connect as; give `user` or PGUSER"))
    }

    /// The first directory in which a server for `port` has put its socket.
    pub(super) fn socket_dir(&self, port: u16) -> Option<&Path> {
        let has_socket = |dir: &&PathBuf| dir.join(format!(".s.PGSQL.{port}")).exists();
        self.socket_dirs.iter().find(has_socket).map(PathBuf::as_path)
    }
}
