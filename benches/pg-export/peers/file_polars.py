"""polars, streaming: CSV to JSONL, or a filter over JSONL."""

import os
import sys

import polars as pl

out = os.path.join(os.environ["O"], "t.jsonl")
src = sys.argv[1]
lf = pl.scan_ndjson(src).filter(pl.col("l_quantity") > 25) if len(sys.argv) > 2 else pl.scan_csv(src)
lf.sink_ndjson(out)
