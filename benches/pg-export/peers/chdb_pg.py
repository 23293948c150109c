"""chDB: its postgresql() table function, or a CSV file."""

import os
import sys
from urllib.parse import urlparse

import chdb

out = os.path.join(os.environ["O"], "t.jsonl")
u = urlparse(os.environ["U"])
if sys.argv[1] == "pg":
    src = f"postgresql('{u.hostname}:{u.port}', '{u.path[1:]}', '{os.environ['T']}', '{u.username}', '')"
else:
    src = f"file('{os.environ['CSV']}', CSVWithNames)"
chdb.query(f"SELECT * FROM {src} INTO OUTFILE '{out}' FORMAT JSONEachRow")
