#!/usr/bin/env python3
"""check.py [--keep] TABLE PEER...   Runs each peer on TABLE once and compares its JSONL with Postgres' own row_to_json.

Per peer: rows expected and found, lines that are not valid JSON (NaN and Infinity literals count as invalid), and per column
how many values differ in which way (right value as a string, lossy number, nulled ...), with one example each.
"""

import argparse
import json
import os
import shutil
import subprocess
from collections import Counter, defaultdict
from decimal import Decimal

HERE = os.path.dirname(os.path.abspath(__file__))


def strict(line):
    """Parses by RFC 8259: no NaN, and numbers of any precision."""

    def refuse(literal):
        raise ValueError("literal " + literal)

    return json.loads(line, parse_constant=refuse, parse_float=Decimal)


def is_number(value):
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def number_kind(want, got):
    if want == got:
        return "same value, other digits"
    try:
        return "same as float64" if float(want) == float(got) else "LOSSY number"
    except OverflowError:
        return "LOSSY number"


def kind(want, got):
    """In which way a value differs."""
    if type(want) is type(got) and want == got and (not isinstance(want, Decimal) or str(want) == str(got)):
        return "same"
    if is_number(want) and is_number(got):
        return number_kind(want, got)
    if got is None:
        return "NULLED"
    if isinstance(got, str) and isinstance(want, str):
        return "trimmed" if want.rstrip() == got else "other text"
    if isinstance(got, str) and want is not None:
        try:
            return "as string" if strict(got) == want else "as other string"
        except ValueError:
            return "as other string"
    return "other type"


def key_of(table):
    if table.startswith("lineitem"):
        return lambda row: (int(row["l_orderkey"]), int(row["l_linenumber"]))
    return lambda row: int(row["id"])


def expected(table):
    conninfo = subprocess.run([os.path.join(HERE, "pg.sh"), "sock"], capture_output=True, text=True, check=True).stdout.strip()
    # NUL between rows: a json column may hold a raw newline.
    command = ["psql", conninfo, "-q", "-At0", "-c", f"SELECT row_to_json(t) FROM {table} t"]
    rows = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    key = key_of(table)
    return {key(row): row for row in map(strict, filter(None, rows))}


def lines_of(folder):
    for path, _, names in os.walk(folder):
        for name in sorted(names):
            if name.endswith("jsonl") and f"{os.sep}_dlt" not in path:
                with open(os.path.join(path, name), encoding="utf-8", errors="replace", newline="\n") as file:
                    yield from (line for line in file if line.strip())


class Comparison:
    """What came of one peer's run."""

    def __init__(self, want, key):
        self.want, self.key = want, key
        self.lines = self.invalid = self.twice = 0
        self.invalid_example = ""
        self.kinds, self.examples, self.seen = defaultdict(Counter), {}, set()

    def add(self, line):
        self.lines += 1
        try:
            got = strict(line)
        except ValueError as error:
            self.invalid += 1
            self.invalid_example = self.invalid_example or f"{error}: {line[:150]!r}"
            return
        try:
            key = self.key(got)
        except (KeyError, TypeError, ValueError):
            self.kinds["<no key>"]["x"] += 1
            return
        self.twice += key in self.seen
        self.seen.add(key)
        if key in self.want:
            self.compare(self.want[key], got)
        else:
            self.kinds["<unknown key>"]["x"] += 1

    def compare(self, want, got):
        for column, value in want.items():
            if column in got:
                found = kind(value, got[column])
            else:
                found = "absent (null)" if value is None else "ABSENT"
            self.kinds[column][found] += 1
            if found != "same" and (column, found) not in self.examples:
                before, after = (json.dumps(v, default=str, ensure_ascii=False) for v in (value, got.get(column)))
                self.examples[column, found] = f"{before[:60]} -> {after[:70]}"

    def show(self):
        missing = len(self.want) - len(self.seen & self.want.keys())
        print(
            f"  rows {self.lines}/{len(self.want)} missing {missing} dup {self.twice} invalid lines {self.invalid} {self.invalid_example}"
        )
        for column, kinds in self.kinds.items():
            differing = [(name, count) for name, count in kinds.most_common() if name != "same"]
            if differing:
                print(f"   {column:<16}" + "; ".join(f"{name} x{n} [{self.examples.get((column, name), '')}]" for name, n in differing))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", action="store_true", help="keep the outputs")
    parser.add_argument("table")
    parser.add_argument("peers", nargs="+")
    args = parser.parse_args()
    want = expected(args.table)
    home = os.environ.get("PGX_OUT", os.path.join(os.environ.get("TMPDIR", "/tmp"), "pg-export-bench/out"))
    for peer in args.peers:
        folder = os.path.join(home, "check-" + peer)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        command = ["bash", os.path.join(HERE, "peers.sh"), peer, args.table, folder]
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        said = "  " + " | ".join(run.stderr.strip().splitlines()[-2:])[:300] if run.returncode else ""
        print(f"== {peer} on {args.table}: exit {run.returncode}{said}")
        comparison = Comparison(want, key_of(args.table))
        for line in lines_of(folder):
            comparison.add(line)
        comparison.show()
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
