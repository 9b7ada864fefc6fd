#!/usr/bin/env python3
"""Evaluation forward passes side by side with PyTorch and SpikingJelly: same network, shapes and norm, alternating in one run.

  V/bin/python scripts/bench_eval.py --width 64 --batch 32 --modes plain,cpp+cl,plain+cl+compile,sj
  V/bin/python scripts/bench_eval.py --width 16 --batch 64 --peer ../shared/peer --harness target/debug/harness

V as scripts/bench_peers.sh makes it. Both sides evaluate with the running statistics of their own batch, so that layers fire as in a
network that was trained, no gradient kept; images a second, medians over rounds. Prints one JSON line.
"""
import argparse, importlib.util, json, pathlib, shlex, statistics, subprocess, time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in (("width", 16), ("batch", 64), ("side", 32), ("channels", 3), ("time-steps", 4), ("threads", 2), ("rounds", 5)):
    parser.add_argument(f"--{name}", type=int, default=default)
parser.add_argument("--gamma", type=float, default=0.5, help="where every norm's gamma starts: 0.5 is tdbn in resnet18-plain, 1.0 is bn")
parser.add_argument("--modes", default="plain,cpp+cl,plain+cl+compile,sj", help="of bench.py")
parser.add_argument("--peer", type=pathlib.Path, default=pathlib.Path("../shared/peer"), help="the folder of bench.py")
parser.add_argument("--harness", default="target/debug/harness")
o = parser.parse_args()
spec = importlib.util.spec_from_file_location("bench", o.peer / "bench.py")
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)
import torch

torch.set_num_threads(o.threads)
images = torch.randn(o.batch, o.channels, o.side, o.side)
shape = dict(width=o.width, T=o.time_steps, ch=o.channels, gamma=o.gamma)


def network(mode):
    net, x = bench.build(mode, shape), images
    if "cl" in mode.split("+"):
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0  # one pass, and the running statistics are this batch's
    reset = getattr(net, "reset", lambda: None)
    with torch.no_grad():
        reset()
        net.train()(x)
    net.eval()
    run = torch.compile(net) if "compile" in mode.split("+") else net

    def forward():
        reset()
        with torch.no_grad():
            run(x)

    for _ in range(3):
        forward()
    return forward, []


runs, ours = {mode: network(mode) for mode in o.modes.split(",")}, []
command = shlex.split(
    f"{o.harness} bench eval --architecture resnet18-plain --width {o.width} --time-steps {o.time_steps} --batch {o.batch} "
    f"--input {o.channels}x{o.side}x{o.side} --norm {'tdbn' if o.gamma == 0.5 else 'bn'} --threads {o.threads} --warmup 2 --steps 7 --json"
)
for _ in range(o.rounds):
    for forward, seconds in runs.values():
        start = time.perf_counter()
        for _ in range(3):
            forward()
        seconds.append((time.perf_counter() - start) / 3)
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ours.append(json.loads(printed.splitlines()[-1]))
rates = {mode: o.batch / statistics.median(seconds) for mode, (_, seconds) in runs.items()}
rate = statistics.median(line["images_per_second"] for line in ours)
best = max(rates, key=rates.get)
print(json.dumps({
    "width": o.width, "batch": o.batch, "side": o.side, "channels": o.channels, "threads": o.threads, "gamma": o.gamma,
    "images_per_second": {**rates, "harness": rate}, "firing_rate": ours[-1]["firing_rate"], "best": best,
    "ratio_to_best": rate / rates[best], "ratios": {mode: rate / other for mode, other in rates.items()},
}))
