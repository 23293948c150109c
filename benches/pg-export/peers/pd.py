"""pandas, by chunks of 20,000 rows."""

import os

import pandas as pd
import sqlalchemy as sa

e = sa.create_engine(os.environ["U"].replace("postgresql://", "postgresql+psycopg2://"))
with (
    e.connect().execution_options(stream_results=True, max_row_buffer=20000) as con,
    open(os.path.join(os.environ["O"], "t.jsonl"), "w") as f,
):
    for ch in pd.read_sql(sa.text(f"SELECT * FROM {os.environ['T']}"), con, chunksize=20000):
        ch.to_json(f, orient="records", lines=True, date_format="iso")
