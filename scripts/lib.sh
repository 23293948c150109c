# shellcheck shell=bash
# What scripts/test and scripts/demo share: words on the screen, installing what is missing, a throwaway Postgres.
# Runs on the bash 3.2 of macOS too: no mapfile, no associative arrays.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# --- Words on the screen ---

# shellcheck disable=SC2034 # Some are for the scripts that source this.
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
  bold='' dim='' red='' green='' plain=''
fi

heading() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }

die() { # LINE...
  printf '%serror:%s %s\n' "$red" "$plain" "$1" >&2
  shift
  [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
  exit 1
}

# Runs a command whose output matters only if it fails.
quietly() { # WHAT COMMAND...
  local what=$1 log status=0
  shift
  log=$(mktemp "${TMPDIR:-/tmp}/sluicegate-log.XXXXXX")
  "$@" >"$log" 2>&1 </dev/null || status=$?
  [ "$status" -eq 0 ] || { printf '%s failed:\n' "$what"; tail -n 40 "$log"; } >&2
  rm -f "$log"
  return "$status"
}

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { [ "$(id -u)" -eq 0 ]; }

# --- What the machine must have ---

# Stops with what to do unless there is a cargo that can build this crate.
need_cargo() {
  # A shell that was open while rustup was installed does not have it on its PATH.
  have cargo || PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
  have cargo || die "there is no cargo." \
    "Install Rust from https://rustup.rs, open a new shell and run this again."
  local wanted is
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
  is=$(cd "$root" && rustc --version | awk '{ print $2 }') || die "rustc does not run."
  at_least "$wanted" "$is" || die "this needs Rust $wanted or newer; here is $is." "Run: rustup update stable"
}

at_least() { # WANTED IS: as versions of two numbers
  local wanted_major=${1%%.*} wanted_rest=${1#*.} major=${2%%.*} rest=${2#*.}
  local wanted_minor=${wanted_rest%%.*} minor=${rest%%.*}
  [ "$major" -gt "$wanted_major" ] || { [ "$major" -eq "$wanted_major" ] && [ "$minor" -ge "$wanted_minor" ]; }
}

# Each part that can be missing: how to see whether it is here, and its packages.
has_compiler() { have cc && printf '#include <stdlib.h>\n' | cc -E - >/dev/null 2>&1; }
has_server() { [ -x "$(pg_program postgres)" ] && [ -x "$(pg_program initdb)" ] && has_client; }
has_client() { [ -x "$(pg_program psql)" ]; }
has_node() { have node && have npm && at_least 18.0 "$(node --version | tr -d v)"; }
has_openssl() { have openssl; }

packages() { # PART apt|brew
  case $1-$2 in
    compiler-apt) echo gcc libc6-dev ;;
    server-apt) echo postgresql ;;
    client-apt) echo postgresql-client ;;
    node-apt) echo nodejs npm ;;
    openssl-apt) echo openssl ;;
    compiler-brew) echo gcc ;;
    server-brew | client-brew) echo postgresql@17 ;;
    node-brew) echo node ;;
    openssl-brew) echo openssl ;;
  esac
}

part_name() { # PART
  case $1 in
    compiler) echo "a C compiler" ;;
    server) echo "the Postgres server programs" ;;
    client) echo "psql" ;;
    node) echo "Node.js 18 or newer with npm" ;;
    openssl) echo "openssl" ;;
  esac
}

# Installs those of the parts that are not here, or stops with what to do.
need() { # PART...
  local part manager='' names=()
  local missing=()
  for part in "$@"; do
    "has_$part" || missing+=("$part")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if have apt-get; then manager=apt; elif have brew; then manager=brew; fi
  [ -n "$manager" ] || die "this machine lacks $(part_names "${missing[@]}")," \
    "and has neither apt-get nor brew to install it with. Install it and run this again."
  for part in "${missing[@]}"; do
    # shellcheck disable=SC2207 # Package names have no blanks.
    names+=($(packages "$part" "$manager"))
  done
  printf 'Installing %s (%s) ...\n' "$(part_names "${missing[@]}")" "${names[*]}"
  "install_with_$manager" "${names[@]}"
  for part in "${missing[@]}"; do
    "has_$part" || die "${names[*]} is installed, but $(part_name "$part") is still not found." \
      "Install it from elsewhere and put it on the PATH."
  done
}

part_names() { # PART...
  local text=''
  for part in "$@"; do text="$text${text:+, }$(part_name "$part")"; done
  echo "$text"
}

install_with_apt() { # PACKAGE...
  local sudo=()
  if ! is_root; then
    have sudo || die "installing needs root, and there is no sudo." "As root, run: apt-get install $*"
    # Asks for the password here, where the question is seen.
    sudo -v || die "sudo refuses to install." "As root, run: apt-get install $*"
    sudo=(sudo)
  fi
  # Package lists that cannot be renewed may still do.
  quietly "apt-get update" ${sudo[@]+"${sudo[@]}"} apt-get update || true
  # The Postgres package would make and start a server of its own; only its programs are needed.
  # shellcheck disable=SC2016 # The inner shell expands it.
  quietly "apt-get install" ${sudo[@]+"${sudo[@]}"} sh -c '
    drop_in=/etc/postgresql-common/createcluster.d/sluicegate.conf
    clean_up() { rm -f "$drop_in"; rmdir "${drop_in%/*}" /etc/postgresql-common 2>/dev/null; }
    trap clean_up EXIT
    trap "exit 130" INT TERM HUP
    mkdir -p "${drop_in%/*}" && echo "create_main_cluster = false" >"$drop_in"
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"' sh "$@" ||
    die "apt-get could not install $*."
}

install_with_brew() { # PACKAGE...
  quietly "brew install" brew install "$@" || die "brew could not install $*."
}

# --- A throwaway Postgres ---

# A program of the newest Postgres where Debian and Homebrew put them, else of the PATH. Prints nothing if there is none.
pg_program() { # NAME
  local candidate best='' version highest=0
  for candidate in /usr/lib/postgresql/*/bin/"$1" /opt/homebrew/opt/postgresql@*/bin/"$1" /usr/local/opt/postgresql@*/bin/"$1"; do
    version=${candidate%/bin/*}
    version=${version##*[/@]}
    case $version in '' | *[!0-9]*) continue ;; esac
    if [ -x "$candidate" ] && [ "$version" -gt "$highest" ]; then
      best=$candidate highest=$version
    fi
  done
  [ -n "$best" ] || best=$(command -v "$1") || true
  echo "$best"
}

# Postgres refuses to run as root: the user it runs as then. Prints nothing if we are not root.
server_user() {
  is_root || return 0
  if id postgres >/dev/null 2>&1; then echo postgres; else echo nobody; fi
}

# Becomes COMMAND, as the server's user if we are root.
exec_as_server_user() { # COMMAND...
  local user
  user=$(server_user)
  if [ -z "$user" ]; then
    exec "$@"
  elif have setpriv; then
    exec setpriv --reuid="$(id -u "$user")" --regid="$(id -g "$user")" --clear-groups "$@"
  else
    exec sudo -u "$user" "$@"
  fi
}

server_dir='' server_url='' supervisor=''

# Starts a private server that nobody else can reach: no TCP, a socket in a directory of its own, $server_dir.
# $server_url is the superuser's way in. It ends with stop_server, or with this script, however that ends: its parent
# is a shell that waits on a pipe from us, in a process group of its own so that Ctrl-C does not take it first.
start_server() {
  local user base=${TMPDIR:-/tmp}
  user=$(server_user)
  # A socket's path has little room, and root's own TMPDIR may be closed to others.
  if [ ${#base} -gt 60 ] || [ -n "$user" ]; then base=/tmp; fi
  # The name is known before the directory is there, so that an interruption in between leaves nothing.
  server_dir=$base/sluicegate-pg.$$-$RANDOM
  mkdir -m 700 "$server_dir"
  [ -z "$user" ] || chown "$user" "$server_dir"
  mkfifo "$server_dir/alive"
  # Opened for both so that nobody waits for the other end.
  exec 9<>"$server_dir/alive"
  # set -m: the shell gets a process group of its own.
  set -m
  supervise "$server_dir" <"$server_dir/alive" >/dev/null 2>&1 9>&- &
  supervisor=$!
  set +m
  local waited=0
  until [ -e "$server_dir/ready" ]; do
    if [ -e "$server_dir/failed" ] || [ "$waited" -ge 600 ]; then
      cat "$server_dir/log" >&2
      stop_server
      die "the throwaway Postgres does not start."
    fi
    sleep 0.1
    waited=$((waited + 1))
  done
  # shellcheck disable=SC2034 # For the scripts that source this.
  server_url="postgresql://postgres@/postgres?host=$server_dir"
}

# Makes a cluster in DIR, runs it until our input ends, removes all.
supervise() { # DIR
  local dir=$1 server=''
  trap '' INT TERM HUP
  cd /
  if initialise "$dir" >"$dir/log" 2>&1 </dev/null; then
    # set -m again: a signal to our group must not reach the server.
    set -m
    (exec_as_server_user "$(pg_program postgres)" -D "$dir/data") >>"$dir/log" 2>&1 </dev/null &
    server=$!
    set +m
    until [ "$(sed -n 8p "$dir/data/postmaster.pid" 2>/dev/null | tr -d ' ')" = ready ]; do
      kill -0 "$server" 2>/dev/null || break
      sleep 0.05
    done
  fi
  if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then : >"$dir/ready"; else : >"$dir/failed"; fi
  while read -r _; do :; done
  if [ -n "$server" ]; then
    # All its connections are ours and the data is worth nothing: no checkpoint.
    kill -QUIT "$server" 2>/dev/null
    wait "$server"
  fi
  rm -rf "$dir"
}

initialise() { # DIR
  (exec_as_server_user "$(pg_program initdb)" -D "$1/data" -U postgres -A trust -E UTF8 --locale=C --no-sync) || return
  cat >>"$1/data/postgresql.conf" <<END
listen_addresses = ''
unix_socket_directories = '$1'
unix_socket_permissions = 0700
max_wal_size = '2GB'
synchronous_commit = off
full_page_writes = off
END
}

stop_server() {
  [ -n "$server_dir" ] || return 0
  exec 9>&-
  [ -z "$supervisor" ] || wait "$supervisor" 2>/dev/null || true
  # There may have been no time for a supervisor.
  rm -rf "$server_dir"
  supervisor='' server_dir=''
}
