#!/usr/bin/env python3
"""What bench.sh runs: one peer at a time, every counted run preceded by the reference (COPY binary to /dev/null).

wall    monotonic clock around the peer's process group
cli cpu user and system time of the peer's processes (getrusage of reaped children)
srv cpu user and system time of the postmaster, its live and its reaped children (/proc)
RSS     private memory (resident minus shared) summed over the peer's process tree, sampled every 0.1 s; the largest run counts
out     bytes of the files written, journals not counted
xCOPYbin median of the paired ratios of wall times, peer to reference
All others are medians over the counted runs.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "peers.sh")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SAMPLE_SECONDS = 0.1


def stat_fields(pid):
    """The fields of /proc/PID/stat from the third on: the second may hold anything."""
    with open(f"/proc/{pid}/stat") as file:
        text = file.read()
    return text[text.rindex(")") + 2 :].split()


def children(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
    except OSError:
        pass  # It has ended meanwhile.
    return found


def server_cpu(postmaster):
    """Seconds; also of backends that have ended and were reaped."""
    ticks = sum(map(int, stat_fields(postmaster)[11:15]))
    for child in children(postmaster):
        try:
            ticks += sum(map(int, stat_fields(child)[11:13]))
        except OSError:
            continue
    return ticks / TICKS_PER_SECOND


def private_bytes(pid):
    """Of the whole tree. Shared pages (libraries) are left out: they would count once per process."""
    total, todo = 0, [pid]
    while todo:
        pid = todo.pop()
        try:
            with open(f"/proc/{pid}/statm") as file:
                _, resident, shared = file.read().split()[:3]
        except OSError:
            continue
        total += (int(resident) - int(shared)) * PAGE_BYTES
        todo += children(pid)
    return total


def written_bytes(folder):
    files = (os.path.join(path, name) for path, _, names in os.walk(folder) for name in names if ".journal" not in name)
    return sum(map(os.path.getsize, files))


def run_once(peer, table, folder, postmaster, timeout):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    server_before, client_before = server_cpu(postmaster), resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    with open(folder + ".err", "wb") as log:
        command = ["bash", PEERS, peer, table, folder]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    peak, late, over = 0, threading.Event(), threading.Event()

    def sample():
        nonlocal peak
        while not over.wait(SAMPLE_SECONDS):
            peak = max(peak, private_bytes(process.pid))

    def kill():
        late.set()
        os.killpg(process.pid, signal.SIGKILL)

    sampler, timer = threading.Thread(target=sample, daemon=True), threading.Timer(timeout, kill)
    sampler.start()
    timer.start()
    process.wait()  # Without a timeout: with one, it would poll every 50 ms, which shows in short runs.
    wall = time.monotonic() - started
    timer.cancel()
    over.set()
    sampler.join()
    client = resource.getrusage(resource.RUSAGE_CHILDREN)
    time.sleep(0.15)  # Backends end a little after their client.
    return {
        "rc": "timeout" if late.is_set() else process.returncode,
        "wall": wall,
        "cpu": client.ru_utime + client.ru_stime - client_before.ru_utime - client_before.ru_stime,
        "server": server_cpu(postmaster) - server_before,
        "rss": peak,
        "out": written_bytes(folder),
    }


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", action="append", default=[], help="peers to run, comma separated; patterns (re.fullmatch)")
    parser.add_argument("--skip", action="append", default=[], help="peers not to run, likewise")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one run")
    parser.add_argument("--ref", default="copy-bin-null", help="reference run before every counted run of a peer; '' for none")
    parser.add_argument("--json", default=os.environ.get("PGX_RESULTS", ""), help="append one JSON line per peer to this file")
    parser.add_argument("--keep", action="store_true", help="keep the last output")
    parser.add_argument("--list", action="store_true", help="print the peers' names")
    parser.add_argument("table", nargs="?")
    return parser.parse_args()


def all_peers():
    with open(PEERS) as file:
        return [name.replace("_", "-") for name in re.findall(r"^peer_([A-Za-z0-9_]+)\s*\(\)", file.read(), re.M)]


def chosen(names, only, skip):
    only, skip = ([pattern for option in options for pattern in option.split(",")] for options in (only, skip))
    for pattern in only:
        if not any(re.fullmatch(pattern, name) for name in names):
            sys.exit(f"no peer matches {pattern}")

    def matches(name, patterns):
        return any(re.fullmatch(pattern, name) for pattern in patterns)

    return [name for name in names if (not only or matches(name, only)) and not matches(name, skip)]


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def measure(peer, args, home, postmaster):
    """The counted runs, their ratios to the reference, and the run that failed, if one did."""
    runs, ratios = [], []
    for number in range(args.warmup + args.runs):
        counts = number >= args.warmup
        reference = None
        if args.ref and peer != args.ref and counts:
            reference = run_once(args.ref, args.table, os.path.join(home, "ref"), postmaster, args.timeout)
        run = run_once(peer, args.table, os.path.join(home, peer), postmaster, args.timeout)
        if run["rc"] != 0:
            return runs, ratios, run
        if counts:
            runs.append(run)
            if reference:
                ratios.append(run["wall"] / reference["wall"])
    return runs, ratios, None


def failure_line(peer, run, log):
    with open(log, errors="replace") as file:
        said = " | ".join(file.read().strip().splitlines()[-3:])[:400]
    return f"{peer:<28}FAILED rc={run['rc']} after {run['wall']:.1f}s rss={run['rss'] / 1e6:.0f}MB: {said}"


def main():
    args = arguments()
    names = all_peers()
    if args.list or not args.table:
        print("\n".join(names))
        return
    home = os.environ.get("PGX_OUT", os.path.join(os.environ.get("TMPDIR", "/tmp"), "pg-export-bench/out"))
    os.makedirs(home, exist_ok=True)
    try:
        script = os.path.join(HERE, "pg.sh")
        postmaster, conninfo = int(output_of(script, "pid")), output_of(script, "sock")
        rows = int(output_of("psql", conninfo, "-Atc", f"SELECT count(*) FROM {args.table}"))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"cluster not up, or no such table ({error}); run pg.sh up and load.sh first")
    print(f"# table={args.table} rows={rows} runs={args.runs}+{args.warmup} warm-up  {time.strftime('%F %T')}")
    heads = f"{'wall s':>8}{'[min-max]':>15}{'krows/s':>9}{'MB/s':>7}{'cli cpu':>8}{'srv cpu':>8}{'RSS MB':>8}{'out MB':>8}{'xCOPYbin':>9}"
    print(f"{'peer':<28}{heads}", flush=True)
    for peer in chosen(names, args.only, args.skip):
        folder = os.path.join(home, peer)
        runs, ratios, failed = measure(peer, args, home, postmaster)
        if failed:
            print(failure_line(peer, failed, folder + ".err"), flush=True)
        if runs:
            report(peer, args, rows, runs, ratios)
        if failed or not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


def report(peer, args, rows, runs, ratios):
    median = {key: statistics.median(run[key] for run in runs) for key in ("wall", "cpu", "server", "out")}
    rss = max(run["rss"] for run in runs)
    walls = [run["wall"] for run in runs]
    ratio = statistics.median(ratios) if ratios else 1.0
    wall, out = median["wall"], median["out"] / 1e6
    print(
        f"{peer:<28}{wall:>8.2f}{f'[{min(walls):.2f}-{max(walls):.2f}]':>15}{rows / wall / 1e3:>9.0f}{out / wall:>7.0f}"
        f"{median['cpu']:>8.2f}{median['server']:>8.2f}{rss / 1e6:>8.0f}{out:>8.1f}{ratio:>9.2f}",
        flush=True,
    )
    if args.json:
        record = {"table": args.table, "rows": rows, "peer": peer, "ratio": ratio, "n": len(runs), "min": min(walls), "max": max(walls)}
        with open(args.json, "a") as file:
            file.write(json.dumps({**record, **median, "rss": rss}) + "\n")


if __name__ == "__main__":
    main()
