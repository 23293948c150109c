"""DuckDB: its Postgres extension, a CSV file, or a filter over JSONL."""

import os
import sys

import duckdb

con = duckdb.connect()
out = os.path.join(os.environ["O"], "t.jsonl")
if sys.argv[1] == "pg":
    import duckdb_extensions

    duckdb_extensions.import_extension("postgres_scanner")
    con.execute("LOAD postgres_scanner")
    con.execute(f"ATTACH '{os.environ['C']}' AS pg (TYPE postgres, READ_ONLY)")
    con.execute(f"COPY (FROM pg.public.{os.environ['T']}) TO '{out}' (FORMAT json)")
elif sys.argv[1] == "csv":
    con.execute(f"COPY (FROM read_csv('{os.environ['CSV']}')) TO '{out}' (FORMAT json)")
else:
    con.execute(
        f"COPY (FROM read_json('{os.environ['JSONL']}', format='newline_delimited') WHERE l_quantity > 25) TO '{out}' (FORMAT json)"
    )
