#!/usr/bin/env bash
# Training-step speed side by side with PyTorch and SpikingJelly: same network, shapes and norm, alternating in one run.
#
#   scripts/bench_peers.sh [PEER_FOLDER] > peers.jsonl        # PEER_FOLDER holds bench.py (default: ../shared/peer)
#
# Needs Python 3 with pip once (several GB: torch, spikingjelly, ninja); MODES, ROUNDS, THREADS and CONFIGS narrow it down:
#   MODES=plain,sj ROUNDS=3 THREADS=2 CONFIGS="16:64:32:3" scripts/bench_peers.sh
# A configuration is width:batch:side:channels. One JSON line a configuration: images a second of every mode, ours, and the ratios.
set -euo pipefail
cd "$(dirname "$0")/.."
peer=${1:-../shared/peer}
venv=${VENV:-target/peer-venv}
modes=${MODES:-plain,cpp+cl,plain+cl+compile,cpp+cl+compile,sj}
rounds=${ROUNDS:-5}
gamma=${GAMMA:-0.5} # 0.5 is tdbn in resnet18-plain; 1.0 is bn
norm=$([ "$gamma" = 0.5 ] && echo tdbn || echo bn)

[ -x "$venv/bin/python" ] || { python3 -m venv "$venv" && "$venv/bin/pip" -q install torch numpy spikingjelly ninja setuptools >&2; }
cargo build --release -p harness >&2
preload=$(find /usr/lib -name 'libtcmalloc_minimal.so.4' 2>/dev/null | head -1 || true)

for threads in ${THREADS:-2 1}; do
  for config in ${CONFIGS:-64:32:32:3 16:64:32:3 8:64:32:3 16:128:8:1}; do
    IFS=: read -r width batch side channels <<<"$config"
    echo "width $width, batch $batch, ${channels}x${side}x${side}, $threads thread(s), $norm" >&2
    ours="target/release/harness bench step --architecture resnet18-plain --width $width --time-steps 4 --batch $batch --input ${channels}x${side}x${side} --norm $norm --threads $threads --warmup 2 --steps 5 --json"
    LD_PRELOAD=$preload "$venv/bin/python" "$peer/bench.py" --width "$width" --batch "$batch" --hw "$side" --ch "$channels" \
      --gamma "$gamma" --threads "$threads" --rounds "$rounds" --modes "$modes" --vs "$ours" | tail -1 |
      python3 -c "import json,sys; d=json.loads(sys.stdin.read()); d.update(width=$width, batch=$batch, side=$side, channels=$channels, norm='$norm'); print(json.dumps(d))"
  done
done
