"""The plain loop: csv and orjson."""

import csv
import os
import sys

import orjson

with open(sys.argv[1], newline="") as f, open(os.path.join(os.environ["O"], "t.jsonl"), "wb", buffering=1 << 20) as o:
    for r in csv.DictReader(f):
        o.write(orjson.dumps(r))
        o.write(b"\n")
