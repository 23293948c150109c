#!/usr/bin/env bash
# pg.sh up | down [--wipe] | url | sock | pid   A private Postgres cluster to be thrown away. It forgoes durability (fsync off).
#   up starts it, making it first if need be; down stops it, with --wipe it is deleted; url, sock: how to connect; pid: the postmaster.
#   PGX_HOME  where it lives (default ${TMPDIR:-/tmp}/pg-export-bench/cluster)   PGX_PORT  its port (default 55437)
#   PGX_BIN   directory of initdb, pg_ctl, postgres (default: Debian's newest, else by PATH)
#   PGX_USER  unprivileged user that runs the server if we are root (default postgres)
set -euo pipefail
PGX_HOME=${PGX_HOME:-${TMPDIR:-/tmp}/pg-export-bench/cluster}
PGX_PORT=${PGX_PORT:-55437}
PGX_USER=${PGX_USER:-postgres}
if [ -z "${PGX_BIN:-}" ]; then
  PGX_BIN=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -1 || true)
  [ -n "$PGX_BIN" ] || PGX_BIN=$(dirname "$(command -v initdb)")
fi
DATA=$PGX_HOME/data SOCK=$PGX_HOME/sock
as() { if [ "$(id -u)" = 0 ]; then runuser -u "$PGX_USER" -- "$@"; else "$@"; fi; }
running() { [ -f "$DATA/postmaster.pid" ] && kill -0 "$(head -1 "$DATA/postmaster.pid")" 2>/dev/null; }
case "${1:-}" in
up)
  if ! running; then
    (umask 022; mkdir -p "$PGX_HOME" "$SOCK")  # The server's user and the clients must get in.
    if [ "$(id -u)" = 0 ]; then
      id "$PGX_USER" >/dev/null 2>&1 || useradd -r -m "$PGX_USER"
      chown "$PGX_USER" "$PGX_HOME" "$SOCK"
    fi
    cd "$PGX_HOME"
    if [ ! -f "$DATA/PG_VERSION" ]; then
      as "$PGX_BIN/initdb" -D "$DATA" -U bench --auth=trust -E UTF8 --locale=C.UTF-8 >/dev/null
      as tee -a "$DATA/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
port = $PGX_PORT
unix_socket_directories = '$SOCK'
shared_buffers = 1GB
work_mem = 64MB
maintenance_work_mem = 512MB
effective_cache_size = 12GB
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = 8GB
checkpoint_timeout = 30min
autovacuum = off
jit = on
timezone = 'UTC'
CONF
    fi
    as "$PGX_BIN/pg_ctl" -D "$DATA" -l "$PGX_HOME/server.log" -w -t 60 start >/dev/null
    as "$PGX_BIN/psql" -h "$SOCK" -p "$PGX_PORT" -U bench -d postgres -Atqc \
      "SELECT 1 FROM pg_database WHERE datname='bench'" | grep -q 1 ||
      as "$PGX_BIN/createdb" -h "$SOCK" -p "$PGX_PORT" -U bench bench
  fi
  echo "postgresql://bench@127.0.0.1:$PGX_PORT/bench" ;;
down)
  if running; then cd "$PGX_HOME"; as "$PGX_BIN/pg_ctl" -D "$DATA" -m fast -w stop >/dev/null; fi
  if [ "${2:-}" = --wipe ]; then rm -rf "$PGX_HOME"; fi ;;
url)  echo "postgresql://bench@127.0.0.1:$PGX_PORT/bench" ;;
sock) echo "host=$SOCK port=$PGX_PORT user=bench dbname=bench" ;;
pid)  head -1 "$DATA/postmaster.pid" ;;
*) echo "usage: pg.sh up|down [--wipe]|url|sock|pid" >&2; exit 2 ;;
esac
