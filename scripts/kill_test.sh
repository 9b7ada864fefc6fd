#!/usr/bin/env bash
# Kills a tiny suite N times at random moments (default 10,000: for a release; a few hours), each time runs the same
# command again, and compares every result file, the weights and the report with an uninterrupted run's.
set -euo pipefail
cd "$(dirname "$0")/.."
HARNESS_KILLS=${1:-10000} cargo test -p harness --test faults random_kills -- --nocapture
