"""connectorx and polars, on the given number of connections (ranges of the key)."""

import os
import sys

import connectorx as cx

n, t = int(sys.argv[1]), os.environ["T"]
key = {"lineitem": "l_orderkey", "lineitem_q": "l_orderkey", "lineitem_s": "l_orderkey"}.get(t, "id")
kw = dict(partition_on=key, partition_num=n) if n > 1 else {}
df = cx.read_sql(os.environ["U"], f"SELECT * FROM {t}", return_type="polars", **kw)
df.write_ndjson(os.path.join(os.environ["O"], "t.jsonl"))
