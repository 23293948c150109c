#!/usr/bin/env python3
"""Times pipelines of sluicegate against polars and duckdb on one file: median seconds and peak memory of RUNS runs, interleaved.

    ./lineitem.py 2000000 lineitem.csv && ./bench.py ../../target/release/sluicegate lineitem.csv [RUNS]

Peers run in this Python, each in a process of its own (`pip install polars duckdb`). Every output is flushed to the disk before the clock stops.
"""
import os
import statistics
import subprocess
import sys
import tempfile
import time

PROGRAM, CSV = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
RUNS = int(sys.argv[3]) if len(sys.argv) > 3 else 5
FOLDER = tempfile.mkdtemp(prefix="files-bench-", dir=os.path.dirname(CSV))
JSONL = os.path.join(FOLDER, "lineitem.jsonl")
OUT = os.path.join(FOLDER, "out")


def sluicegate(source, processors="[]"):
    pipeline = os.path.join(FOLDER, "pipeline.yaml")
    with open(pipeline, "w") as file:
        file.write(f"source: {{ type: file, path: {source} }}\nprocessors: {processors}\nsink: {{ type: file, path: {OUT}.jsonl }}\n")
    return [PROGRAM, "run", pipeline, "--quiet", "--fresh", "--force"]


def python(code):
    flush = f"\nimport os\nfd = os.open('{OUT}.jsonl', os.O_RDONLY); os.fsync(fd)"
    return [sys.executable, "-c", code + flush]


def polars(scan, more=""):
    return python(f"import polars as pl\npl.{scan}{more}.sink_ndjson('{OUT}.jsonl')")


def duckdb(read, columns="*"):
    return python(f"import duckdb\nduckdb.sql(\"COPY (SELECT {columns} FROM {read}) TO '{OUT}.jsonl' (FORMAT json)\")")


SELECT = "[{ type: select, names: [l_orderkey, l_extendedprice, l_comment] }]"
COLUMNS = "l_orderkey, l_extendedprice, l_comment"
CASES = {
    "CSV -> JSONL, values as strings": {
        "sluicegate": lambda: sluicegate(CSV),
        "polars": lambda: polars(f"scan_csv('{CSV}', infer_schema=False)"),
        "duckdb": lambda: duckdb(f"read_csv('{CSV}', all_varchar=true)"),
    },
    "JSONL -> JSONL, all of it": {
        "sluicegate": lambda: sluicegate(JSONL),
        "polars": lambda: polars(f"scan_ndjson('{JSONL}')"),
        "duckdb": lambda: duckdb(f"read_json('{JSONL}')"),
    },
    "JSONL -> three columns -> JSONL": {
        "sluicegate": lambda: sluicegate(JSONL, SELECT),
        "polars": lambda: polars(f"scan_ndjson('{JSONL}')", f".select({COLUMNS.split(', ')})"),
        "duckdb": lambda: duckdb(f"read_json('{JSONL}')", COLUMNS),
    },
}


def measure(command):
    for name in os.listdir(FOLDER):
        if name.startswith("out."):
            os.remove(os.path.join(FOLDER, name))
    began = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - began
    if status:
        raise SystemExit(f"{command} failed: {status}")
    return seconds, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def main():
    subprocess.run(sluicegate(CSV), check=True)
    os.rename(OUT + ".jsonl", JSONL)
    print(f"{os.path.getsize(CSV) / 1e6:.0f} MB of CSV, {os.path.getsize(JSONL) / 1e6:.0f} MB of JSONL, median of {RUNS}, {os.cpu_count()} processors")
    for case, peers in CASES.items():
        results = {name: [] for name in peers}
        for _ in range(RUNS):
            for name, command in peers.items():
                results[name].append(measure(command()))
        print(case)
        for name, runs in results.items():
            seconds, memory, cpu = (statistics.median(column) for column in zip(*runs))
            print(f"  {name:<12} {seconds:6.2f} s  {memory:7.0f} MB  {cpu:6.2f} s of CPU")
    for name in os.listdir(FOLDER):
        os.remove(os.path.join(FOLDER, name))
    os.rmdir(FOLDER)


main()
