#!/usr/bin/env bash
# Compares sluicegate with real XState: COUNT random machines of each profile, the scenarios of the examples, and the
# definitions that ship. Any difference fails.
#
#   SLUICEGATE=path/to/sluicegate tests/conformance/run.sh COUNT [SEED]
#
# A fresh seed is drawn when none is given; the seed that is printed makes the same machines again.
set -euo pipefail

count=${1:?usage: SLUICEGATE=path/to/sluicegate run.sh COUNT [SEED]}
seed=${2:-$((RANDOM * 32768 + RANDOM))}
sluicegate=$(realpath "${SLUICEGATE:?the path of the binary is needed}")
cd "$(dirname "${BASH_SOURCE[0]}")"
[ -d node_modules/xstate ] || npm install --no-package-lock --no-audit --no-fund --silent

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

compare() { # NAME: $work/cases through both
  node oracle.mjs < "$work/cases" > "$work/oracle"
  "$sluicegate" simulate < "$work/cases" > "$work/ours"
  local result
  result=$(node diff.mjs "$work/oracle" "$work/ours") || failed=1
  echo "$1: $result"
}

echo "seed $seed"
for profile in full flat lifecycle values; do
  node gen.mjs "$count" "$seed" "$profile" > "$work/cases"
  compare "$profile"
done
node verify-examples.mjs > "$work/examples" || { cat "$work/examples"; failed=1; }
node verify-examples.mjs --cases > "$work/cases"
compare examples
if [ "$failed" -ne 0 ]; then
  echo "Differences: run again with the seed $seed to see them." >&2
fi
exit "$failed"
