"""dlt: sql_table to a filesystem destination, by the given backend."""

import os
import shutil
import sys

OUT = os.environ["O"]
os.environ.update(
    DLT_DATA_DIR=os.path.join(OUT, ".dlt"),
    RUNTIME__DLTHUB_TELEMETRY="false",
    RUNTIME__LOG_LEVEL="CRITICAL",
    DATA_WRITER__DISABLE_COMPRESSION="true",
    NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION="true",
)
if os.environ.get("DLT_WORKERS"):
    os.environ["NORMALIZE__WORKERS"] = os.environ["DLT_WORKERS"]
import dlt
from dlt.sources.sql_database import sql_table

backend = sys.argv[1]
url = os.environ["U"]
if backend != "connectorx":
    url = url.replace("postgresql://", "postgresql+psycopg2://")
kw = dict(backend_kwargs={"return_type": "arrow"}) if backend == "connectorx" else {}
src = sql_table(url, table=os.environ["T"], schema="public", backend=backend, chunk_size=50000, **kw)
p = dlt.pipeline(
    "x",
    destination=dlt.destinations.filesystem(bucket_url="file://" + OUT + "/out"),
    dataset_name="d",
    pipelines_dir=os.path.join(OUT, ".dlt", "pipelines"),
)
print(p.run(src, loader_file_format="jsonl"))

shutil.rmtree(os.path.join(OUT, ".dlt"), ignore_errors=True)
