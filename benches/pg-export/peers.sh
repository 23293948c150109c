#!/usr/bin/env bash
# peers.sh PEER TABLE OUTDIR   One export of TABLE by PEER; files go to OUTDIR. Used by bench.sh and check.py; also runnable alone.
# peers.sh mkcsv TABLE -       No peer: makes the CSV and JSONL files that the file jobs read.
# Add a peer: write a function peer_<name> (a '-' of the public name is a '_' here). It finds $T the table, $O the output directory,
# $C libpq conninfo (Unix socket), $U URL (loopback TCP), $V Python of the peers' venv.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VENV=${PEERS_VENV:-$HOME/.cache/peers-venv}
WORK=${TMPDIR:-/tmp}/pg-export-bench
SLUICEGATE=${SLUICEGATE:-${CARGO_TARGET_DIR:-$HERE/../../target}/release/sluicegate}
FLOOR=${PGX_FLOOR:-$WORK/floor}
P=$1 T=$2 O=$3
C=$("$HERE/pg.sh" sock)
U=$("$HERE/pg.sh" url)
V=$VENV/bin/python
CSV=${PGX_CSV:-$WORK/csv}/$T.csv
JSONL=${CSV%.csv}.jsonl
export T O C U CSV JSONL

# COPY in text format doubles backslashes, which breaks JSON. In CSV with a quote and a delimiter that do not occur it leaves rows alone.
CSVTRICK="(FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')"

# Two halves by ctid, each on its own connection and under its own snapshot: SELECT list, COPY options, output prefix ('' for /dev/null).
halves() {
  local middle first first_out=/dev/null second_out=/dev/null
  middle=$(psql "$C" -Atc "SELECT greatest(1, pg_relation_size('$T') / 8192 / 2)")
  [ -z "$3" ] || { first_out=$3-0.jsonl; second_out=$3-1.jsonl; }
  psql "$C" -qc "COPY (SELECT $1 FROM $T t WHERE ctid < '($middle,0)') TO STDOUT $2" > "$first_out" & first=$!
  psql "$C" -qc "COPY (SELECT $1 FROM $T t WHERE ctid >= '($middle,0)') TO STDOUT $2" > "$second_out"
  wait $first
}

# ---- references: what the server and the transport can do (no output file) ----
peer_copy_bin_null()    { psql "$C" -qc "COPY $T TO STDOUT (FORMAT binary)" > /dev/null; }
peer_copy_text_null()   { psql "$C" -qc "COPY $T TO STDOUT" > /dev/null; }
peer_copy_bin_null_2()  { halves '*' '(FORMAT binary)' ''; }
peer_copy_text_null_2() { halves '*' '' ''; }
peer_copy_json_null()   { psql "$C" -qc "COPY (SELECT row_to_json(t) FROM $T t) TO STDOUT $CSVTRICK" > /dev/null; }
peer_copy_json_null_2() { halves 'row_to_json(t)' "$CSVTRICK" ''; }
peer_copy_bin_file()    { psql "$C" -qc "COPY $T TO STDOUT (FORMAT binary)" > "$O/t.bin"; }
# ---- floor: a hand-written client (floor.rs, built by peers-setup.sh) on 1, 2 or 4 connections ----
floor_run() {
  local kinds pages folder port
  kinds=$(psql "$C" -Atc "
    SELECT string_agg(attname || ':' || CASE
        WHEN t.typname IN ('int2', 'int4', 'int8', 'numeric', 'float4', 'float8') THEN 'n' WHEN t.typname IN ('json', 'jsonb') THEN 'j'
        WHEN t.typname = 'bool' THEN 'b' WHEN t.typname = 'timestamptz' THEN 't' WHEN t.typname = '_text' THEN 'a' ELSE 's' END,
      ',' ORDER BY attnum)
    FROM pg_attribute a JOIN pg_type t ON t.oid = atttypid WHERE attrelid = '$T'::regclass AND attnum > 0 AND NOT attisdropped")
  pages=$(psql "$C" -Atc "SELECT pg_relation_size('$T') / 8192")
  folder=${C#host=} port=${C#*port=}
  "$FLOOR" "${folder%% *}/.s.PGSQL.${port%% *}" bench bench "$T" "$kinds" "$O/t" "$1" "$pages" "${@:2}"
}
peer_floor_1()          { floor_run 1; }
peer_floor_2()          { floor_run 2; }
peer_floor_4()          { floor_run 4; }
peer_floor_1_null()     { floor_run 1 null; }
peer_floor_2_null()     { floor_run 2 null; }
# ---- psql ----
peer_psql_copy_json()   { psql "$C" -qc "COPY (SELECT row_to_json(t) FROM $T t) TO STDOUT" > "$O/t.jsonl"; }
peer_psql_csvtrick()    { psql "$C" -qc "COPY (SELECT row_to_json(t) FROM $T t) TO STDOUT $CSVTRICK" > "$O/t.jsonl"; }
peer_psql_csvtrick_2()  { halves 'row_to_json(t)' "$CSVTRICK" "$O/t"; }
peer_psql_at_fetch()    { psql "$C" -q -v FETCH_COUNT=10000 -At -c "SELECT row_to_json(t) FROM $T t" > "$O/t.jsonl"; }
peer_psql_at_nofetch()  { psql "$C" -q -At -c "SELECT row_to_json(t) FROM $T t" > "$O/t.jsonl"; }
# ---- sluicegate: over the reference's transport (Unix socket), and over TCP ----
sluicegate() { "$SLUICEGATE" export --table "$T" --quiet "$@"; }
peer_sluicegate()           { sluicegate --from "$C" --to "$O/t.jsonl"; }
peer_sluicegate_tcp()       { sluicegate --from "$U" --to "$O/t.jsonl"; }
peer_sluicegate_nojournal() { sluicegate --from "$C" --to "$O/t.jsonl" --no-journal; }
peer_sluicegate_zst()       { sluicegate --from "$C" --to "$O/t.jsonl.zst"; }
# ---- data libraries ----
peer_cx_polars_1()      { "$V" "$HERE/peers/cx.py" 1; }
peer_cx_polars_2()      { "$V" "$HERE/peers/cx.py" 2; }
peer_cx_polars_4()      { "$V" "$HERE/peers/cx.py" 4; }
peer_adbc_polars()      { "$V" "$HERE/peers/adbc.py" whole; }
peer_adbc_stream()      { "$V" "$HERE/peers/adbc.py" stream; }
peer_duckdb_pg()        { "$VENV-duckpg/bin/python" "$HERE/peers/duck.py" pg; }
peer_chdb_pg()          { "$VENV-chdb/bin/python" "$HERE/peers/chdb_pg.py" pg; }
peer_psycopg_orjson()   { "$V" "$HERE/peers/psy.py"; }
peer_pandas_chunks()    { "$V" "$HERE/peers/pd.py"; }
peer_node_pg_stream()   { node "$HERE/peers/pgstream.mjs"; }
# ---- pipelines ----
peer_dlt_sqlalchemy()   { "$VENV-dlt/bin/python" "$HERE/peers/dlt_pg.py" sqlalchemy; }
peer_dlt_pyarrow()      { "$VENV-dlt/bin/python" "$HERE/peers/dlt_pg.py" pyarrow; }
peer_dlt_connectorx()   { "$VENV-dlt/bin/python" "$HERE/peers/dlt_pg.py" connectorx; }
peer_singer_tap()       { "$HERE/peers/singer.sh" "$VENV"; }
# ---- file jobs: the table's CSV -> JSONL ----
peer_file_polars()      { "$V" "$HERE/peers/file_polars.py" "$CSV"; }
peer_file_duckdb()      { "$V" "$HERE/peers/duck.py" csv; }
peer_file_chdb()        { "$VENV-chdb/bin/python" "$HERE/peers/chdb_pg.py" csv; }
peer_file_mlr()         { mlr --icsv --ojsonl cat "$CSV" > "$O/t.jsonl"; }
peer_file_csvjson()     { csvjson --stream --no-inference "$CSV" > "$O/t.jsonl"; }
peer_file_python()      { "$V" "$HERE/peers/file_python.py" "$CSV"; }
peer_file_fsm_source_sink() { "$VENV-fsm/bin/python" "$HERE/peers/fsm.py" "$CSV" sync 1; }
peer_file_fsm_stream_1()    { "$VENV-fsm/bin/python" "$HERE/peers/fsm.py" "$CSV" stream 1; }
peer_file_fsm_stream_4()    { "$VENV-fsm/bin/python" "$HERE/peers/fsm.py" "$CSV" stream 4; }
# ---- file jobs: JSONL -> JSONL, a filter ----
peer_jsonl_jq()         { jq -c 'select(.l_quantity > 25)' "$JSONL" > "$O/t.jsonl"; }
peer_jsonl_jaq()        { jaq -c 'select(.l_quantity > 25)' "$JSONL" > "$O/t.jsonl"; }
peer_jsonl_polars()     { "$V" "$HERE/peers/file_polars.py" "$JSONL" filter; }
peer_jsonl_duckdb()     { "$V" "$HERE/peers/duck.py" jsonl; }

mkcsv() {
  mkdir -p "$(dirname "$CSV")"
  psql "$C" -qc "COPY $T TO STDOUT (FORMAT csv, HEADER)" > "$CSV"
  psql "$C" -qc "COPY (SELECT row_to_json(t) FROM $T t) TO STDOUT $CSVTRICK" > "$JSONL"
  ls -l "$CSV" "$JSONL"
}

if [ "$P" = mkcsv ]; then mkcsv; else "peer_${P//-/_}"; fi
