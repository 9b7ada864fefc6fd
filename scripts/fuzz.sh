#!/usr/bin/env bash
# Runs every fuzz target for SECONDS_EACH (default 60) from the committed corpus; ends with the first finding.
# RUNS ends a target sooner, LENGTH bounds its inputs: RUNS=10000000 LENGTH=1024 scripts/fuzz.sh 36000 -s none
# Needs the nightly compiler and `cargo install cargo-fuzz`. Options of cargo fuzz may follow, e.g. `600 -s none` without
# the address sanitizer: faster, and the readers under test have no unsafe code.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
for target in fuzz/fuzz_targets/*.rs; do
  name=$(basename "$target" .rs)
  found=$(mktemp -d) # new inputs go here, not into the committed corpus
  echo "== $name"
  cargo +nightly fuzz run --fuzz-dir fuzz "${@:2}" "$name" "$found" "fuzz/corpus/$name" -- \
    -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=10 -max_len="${LENGTH:-65536}" -runs="${RUNS:--1}" -print_final_stats=1 2>&1 |
    grep -E 'stat::(number|average|peak)|SUMMARY|panicked|ERROR' || true
  if compgen -G "fuzz/artifacts/$name/*" >/dev/null; then
    echo "$name: see fuzz/artifacts/$name"
    exit 1
  fi
  rm -rf "$found"
done
