#!/usr/bin/env bash
# bench.sh [--only NAME[,NAME..]] [--skip NAME[,NAME..]] [--runs N] [--warmup N] [--timeout S] [--json FILE] [--keep] [--list] TABLE
# One line per peer. Peers are the functions peer_<name> of peers.sh (a '_' reads as '-' in the name); names may be patterns.
# The cluster must be up and loaded: pg.sh up, load.sh. The README lists the environment variables.
exec python3 "$(cd "$(dirname "$0")" && pwd)/bench.py" "$@"
