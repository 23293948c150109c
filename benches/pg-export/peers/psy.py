"""What one writes by hand: psycopg 3, server-side cursor, orjson per row."""

import os
from decimal import Decimal

import orjson
import psycopg


def default(o):
    if isinstance(o, Decimal):
        return float(o)
    return str(o)


with (
    psycopg.connect(os.environ["U"]) as con,
    con.cursor("c", row_factory=psycopg.rows.dict_row) as cur,
    open(os.path.join(os.environ["O"], "t.jsonl"), "wb", buffering=1 << 20) as f,
):
    cur.itersize = 10000
    cur.execute(f"SELECT * FROM {os.environ['T']}")
    for row in cur:
        f.write(orjson.dumps(row, default=default))
        f.write(b"\n")
