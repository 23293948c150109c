"""ADBC driver and polars: the whole result at once, or batch by batch."""

import os
import sys

import polars as pl
from adbc_driver_postgresql import dbapi

out = os.path.join(os.environ["O"], "t.jsonl")
with dbapi.connect(os.environ["U"]) as con, con.cursor() as cur:
    cur.execute(f"SELECT * FROM {os.environ['T']}")
    if sys.argv[1] == "whole":
        pl.from_arrow(cur.fetch_arrow_table()).write_ndjson(out)
    else:
        with open(out, "wb") as f:
            for b in cur.fetch_record_batch():
                pl.from_arrow(b).write_ndjson(f)
