#!/usr/bin/env bash
# peers-setup.sh   Installs the peers outside the repository (one venv each where their dependencies clash) and builds floor.rs.
# Needs python3 with venv, npm and rustc; the Debian packages miller, csvkit and jq are peers too. Where things go: see the README.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
VENV=${PEERS_VENV:-$HOME/.cache/peers-venv}
NODE=${NODE_PEERS:-$HOME/.cache/peers-node}
FLOOR=${PGX_FLOOR:-${TMPDIR:-/tmp}/pg-export-bench/floor}

venv() {
  local folder=$1; shift
  python3 -m venv "$folder"
  "$folder/bin/pip" install -q "$@"
}
venv "$VENV" connectorx polars pyarrow adbc-driver-postgresql duckdb pandas sqlalchemy psycopg2-binary orjson "psycopg[binary]"
venv "$VENV-duckpg" duckdb==1.5.5 duckdb-extensions==1.5.5 duckdb-extension-postgres-scanner==1.5.5 # The extension must match the version.
venv "$VENV-chdb" chdb
venv "$VENV-dlt" "dlt[postgres,parquet]" sqlalchemy psycopg2-binary "psycopg[binary]" connectorx pyarrow pandas orjson
venv "$VENV-fsm" dataknobs-fsm
venv "$VENV-tap" meltanolabs-tap-postgres
venv "$VENV-target" target-jsonl

mkdir -p "$NODE" "$(dirname "$FLOOR")"
(cd "$NODE" && npm install --silent pg pg-query-stream)
rustc --edition 2024 -C opt-level=3 -o "$FLOOR" "$HERE/floor.rs"
