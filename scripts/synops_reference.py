#!/usr/bin/env python3
"""Synaptic operations of a reference dump as SpikingJelly counts them; the harness must count the same.

  python3 -m venv V && V/bin/pip install torch numpy safetensors spikingjelly        # once
  V/bin/python scripts/synops_reference.py --ref ../shared/peer/ref.py               # writes harness/tests/fixtures/synops.json

The network and its input are those of `resnet18-plain_tdbn_w4_T2_8x8x3.safetensors`, in training mode. SpikingJelly's SynOpCounter counts an
accumulate for each weight that a binary input meets; the first convolution (an image) and the readout (averaged spikes) are no binary
inputs and not counted. Its total is for the whole batch and all time steps.
"""
import argparse, importlib.util, json, pathlib, sys

import torch
from safetensors import safe_open
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--ref", type=pathlib.Path, required=True, help="the PyTorch reference network, ref.py")
arguments = parser.parse_args()
sys.path.insert(0, str(arguments.ref.parent))
spec = importlib.util.spec_from_file_location("ref", arguments.ref)
ref = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ref)

folder = pathlib.Path(__file__).resolve().parent.parent / "harness/tests/fixtures"
name = "resnet18-plain_tdbn_w4_T2_8x8x3"
with safe_open(folder / f"{name}.safetensors", "pt") as dump:
    meta = dump.metadata()
    tensors = {key: dump.get_tensor(key) for key in dump.keys()}
time_steps, width, tau, vth = int(meta["T"]), int(meta["width"]), float(meta["tau"]), float(meta["vth"])
stages = tuple(int(n) for n in meta["stages"].strip("()").split(",") if n.strip())
classes, channels = tensors["param.fc.weight"].shape[0], tensors["input"].shape[1]
net = ref.SpikingResNet18(T=time_steps, width=width, in_ch=channels, classes=classes, stages=stages, tau=tau, vth=vth)
state = {key.removeprefix("param."): value for key, value in tensors.items() if key.startswith("param.")}
# tdBN with alpha = 1 is a batch norm whose gamma is v_th times as large.
state = {key: value * vth if "bn" in key and key.endswith(".weight") else value for key, value in state.items()}
net.load_state_dict(state)
record = {}
for lif in net.lifs():
    lif.set(record=record)
counter = SynOpCounter()
net.train()
with torch.no_grad(), DispatchCounterMode([counter]):
    net(tensors["input"])
for lif, (_, spikes) in record.items():
    assert torch.equal(spikes.to(torch.uint8).flatten(), tensors[f"spikes.{lif}"].flatten()), f"{lif}: other spikes than the dump"
result = {"dump": name, "synops": int(counter.get_total()), "counter": "SpikingJelly SynOpCounter, batch and all time steps, convolutions on spikes"}
(folder / "synops.json").write_text(json.dumps(result, indent=1) + "\n")
print(json.dumps(result))
