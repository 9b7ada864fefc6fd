#!/usr/bin/env python3
"""Writes the small PyTorch dumps that the Rust network is checked against (harness/tests/fixtures/README.md lists them).

    python3 -m venv V && V/bin/pip install torch numpy safetensors        # made with torch 2.15.0, CPU
    V/bin/python scripts/reference_dumps.py --ref PATH/TO/ref.py [--out harness/tests/fixtures] [--only NAME]...

`ref.py` is the PyTorch reference of `resnet18-plain`. Used of it: `SURR` and `_Spike` (surrogates, Heaviside), `lif_autograd`
(LIF with hard reset) and `SpikingResNet18`. Added here: the modified `resnet18`, tdBN, event input, soft reset.

Every dump is made in f32 and in f64 from the same f32 parameters, and is written only if the two agree: equal spikes (training
and eval mode), everything else within HALF of the tolerance that the fixtures' README grants. That needs membranes which stay
away from the threshold and from the surrogates' edges, hence `settle`, which shifts each norm's bias. A run takes a minute.
The tensors are a function of the seeds below and of torch's version; the order of the metadata in a file is not fixed.
"""
import argparse
import copy
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

ref = None  # the module that --ref names; set once, in main()

CLASSES = 10
EDGE = 0.5  # |u - v_th| where Dspike and the rectangle of width 1 jump to 0
FIRING = ((0.15, 0.6), (0.03, 0.9))  # a settled channel's rate in the first pass and in the others: else silence is safest
LEAST_VARIANCE = 1e-3  # of any norm's input: 100 x its eps, below that rounding errors are amplified
LEAST_GRADIENT = 1e-4  # norm of any parameter's gradient: a relative error needs something to be relative to
HALF_TOLERANCE = {"logits": 5e-6, "gradient": 5e-5, "statistics": 5e-6, "sgd": 5e-6, "membrane": 5e-7,
                  "lif_gradient": 1e-5, "fdg": 5e-5, "cosine": 5e-4}


@dataclass(frozen=True)
class Setup:
    """One network dump. `image` is (channels, height, width); a surrogate is (kind, parameter, detach)."""
    name: str
    image: tuple
    surrogates: tuple
    architecture: str = "resnet18"
    norm: str = "tdbn"
    stages: tuple = (1, 1)
    width: int = 4
    T: int = 2
    batch: int = 3
    tau: float = 0.25
    vth: float = 0.5
    reset: str = "hard"
    event: bool = False
    seed: int = 0

    def metadata(self):
        """`event` and `reset` stand in a dump only where they differ from a still image and the hard reset."""
        known = {"architecture": self.architecture, "norm": self.norm, "stages": self.stages, "T": self.T,
                 "width": self.width, "tau": self.tau, "vth": self.vth}
        if self.event:
            known["event"] = 1
        if self.reset != "hard":
            known["reset"] = self.reset
        return {key: str(value) for key, value in known.items()}


NETWORKS = (
    # The whole depth: four downsampling adds and blocks after them. 12 -> 6 (stem pool), 6, 3, 2 (ceil), 1.
    Setup("resnet18_tdbn_w2_T2_12x12x3", (3, 12, 12), (("dspike", 1, 0),), stages=(2, 2, 2, 2), width=2, batch=6, seed=5),
    # Height is not width; the stem's pool drops a row (11 -> 5), the shortcut's pool keeps it (5 -> 3).
    Setup("resnet18_bn_w4_T2_11x14x3", (3, 11, 14), (("dspike", 3, 1), ("rect", 1, 0)), norm="bn", tau=0.5),
    Setup("resnet18_event_tdbn_w4_T3_10x10x2", (2, 10, 10), (("triangle", 1, 0), ("arctan", 2, 1)), T=3, vth=1.0, event=True),
    Setup("resnet18_soft_bn_w4_T4_10x10x3", (3, 10, 10), (("dspike", 3, 0), ("dspike", 3, 1)), norm="bn", T=4, tau=0.5,
          reset="soft"),
    Setup("resnet18_tdbn_w4_T1_8x8x1", (1, 8, 8), (("sigmoid", 4, 0),), T=1, batch=4, vth=1.0),
    Setup("resnet18-plain_tdbn_w4_T2_8x8x3", (3, 8, 8), (("dspike", 1, 0),), architecture="resnet18-plain"),
)
FDG = Setup("fdg_resnet18_tdbn_w4_b4_8x8", (3, 8, 8),
            tuple(("dspike", b, detach) for b in (0.8, 1, 1.2, 3, 10) for detach in (0, 1)), batch=4)
FDG_EPSILON = 0.1
LIFS = (("lif_tau0.25_vth1.0", 0.25, 1.0, "hard", 3), ("lif_soft_tau0.25_vth0.5", 0.25, 0.5, "soft", 5),
        ("lif_soft_tau0.5_vth1.0", 0.5, 1.0, "soft", 4))
LIF_SURROGATES = (("dspike", 1), ("dspike", 3), ("rect", 1), ("sigmoid", 4), ("triangle", 1), ("arctan", 2))


# ---------------------------------------------------------------- neuron, norm, network
def lif(current, tau, vth, reset, kind, parameter, detach):
    """`[T, ...]` currents to (spikes, membrane before the reset). Soft: u[t] = tau*(u[t-1] - vth*s[t-1]) + I[t]."""
    if reset == "hard":
        return ref.lif_autograd(current, tau, vth, kind, parameter, detach, return_u=True)
    spikes, membranes = [], []
    for step in current:
        u = tau * (u - vth * (s.detach() if detach else s)) + step if spikes else step
        s = ref._Spike.apply(u - vth, kind, parameter)
        spikes.append(s)
        membranes.append(u)
    return torch.stack(spikes), torch.stack(membranes)


class Lif(nn.Module):
    """`[T*B, ...]` currents to spikes; `[B, ...]` where `once` (one current for every t). Keeps what it saw last."""

    def __init__(self, setup, once=False):
        super().__init__()
        self.setup, self.once = setup, once
        self.surrogate, self.seen = setup.surrogates[0], None

    def forward(self, x):
        s = self.setup
        current = x.unflatten(0, (1 if self.once else s.T, -1))
        spikes, _ = lif(current.expand(s.T, *current.shape[1:]), s.tau, s.vth, s.reset, *self.surrogate)
        self.seen = (current.detach(), spikes.detach())
        return spikes.flatten(0, 1)


class Norm(nn.BatchNorm2d):
    """`gamma * (alpha*v_th*xhat) + beta` for tdBN, `gamma * xhat + beta` for bn (where alpha says nothing)."""

    def __init__(self, channels, setup, alpha=1.0):
        super().__init__(channels)
        self.scale = alpha * setup.vth if setup.norm == "tdbn" else 1.0

    def forward(self, x):
        if self.training:
            self.num_batches_tracked += 1
        xhat = F.batch_norm(x, self.running_mean, self.running_var, None, None, self.training, self.momentum, self.eps)
        return self.weight[:, None, None] * (self.scale * xhat) + self.bias[:, None, None]


class Block(nn.Module):
    """conv-norm-LIF-conv-norm, plus the shortcut before the second LIF; average pool and 1x1 conv where the shape changes."""

    def __init__(self, cin, cout, stride, setup):
        super().__init__()
        down = stride != 1 or cin != cout
        alpha = 1 / math.sqrt(2) if down else 1.0
        self.conv1, self.bn1, self.lif1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False), Norm(cout, setup), Lif(setup)
        self.conv2, self.bn2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), Norm(cout, setup, alpha)
        self.down_pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False) if down else None
        if down:
            self.down_conv, self.down_bn = nn.Conv2d(cin, cout, 1, bias=False), Norm(cout, setup, alpha)
        self.lif2 = Lif(setup)

    def forward(self, x):
        shortcut = self.down_bn(self.down_conv(self.down_pool(x))) if self.down_pool else x
        x = self.lif1(self.bn1(self.conv1(x)))
        return self.lif2(self.bn2(self.conv2(x)) + shortcut)


class ResNet18(nn.Module):
    """The authors' modified ResNet-18. Images `[B,C,H,W]` (first conv and norm once an image) or events `[T,B,2,H,W]`."""

    def __init__(self, setup):
        super().__init__()
        self.T, w = setup.T, setup.width
        for i in (1, 2, 3):
            setattr(self, f"conv{i}", nn.Conv2d(setup.image[0] if i == 1 else w, w, 3, 1, 1, bias=False))
            setattr(self, f"bn{i}", Norm(w, setup))
            setattr(self, f"lif{i}", Lif(setup, once=i == 1 and not setup.event))
        cin, self.stages = w, []
        for i, blocks in enumerate(setup.stages):
            cout = w * 2**i
            stage = nn.Sequential(*(Block(cout if j else cin, cout, 2 if i and not j else 1, setup) for j in range(blocks)))
            setattr(self, f"layer{i + 1}", stage)
            self.stages.append(f"layer{i + 1}")
            cin = cout
        self.fc = nn.Linear(cin, CLASSES)

    def forward(self, x):
        x = x.flatten(0, 1) if x.dim() == 5 else x
        for i in (1, 2, 3):
            x = getattr(self, f"lif{i}")(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        x = F.avg_pool2d(x, 2)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return self.fc(x.mean((2, 3))).unflatten(0, (self.T, -1)).mean(0)


def resnet18_plain(setup):
    """The reference's own network, with this script's neuron and norm (alpha 1 everywhere)."""
    net = ref.SpikingResNet18(setup.T, setup.width, setup.image[0], CLASSES, setup.stages)
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, Norm(child.num_features, setup))
            elif isinstance(child, ref.LIF):
                setattr(parent, name, Lif(setup, once=parent is net))
    return net


def build(setup):
    """(f32 network, f64 twin, input, labels), all random; `settle` makes the twin's biases safe."""
    torch.manual_seed(setup.seed)
    net = ResNet18(setup) if setup.architecture == "resnet18" else resnet18_plain(setup)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, Norm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    if setup.event:  # sparse counts, divided by the frame's largest one
        x = torch.poisson(torch.full((setup.T, setup.batch, *setup.image), 0.5))
        x = x / x.amax((2, 3, 4), keepdim=True)
    else:
        x = torch.randn(setup.batch, *setup.image)
    return net, copy.deepcopy(net).double(), x, torch.randint(CLASSES, (setup.batch,))


# ---------------------------------------------------------------- one pass, and the margins that make it reproducible
def lifs(net):
    return {name: module for name, module in net.named_modules() if isinstance(module, Lif)}


def spikes_of(net):
    return {name: module.seen[1].to(torch.uint8) for name, module in lifs(net).items()}


def forget_statistics(net):
    """Running mean 0, variance 1, no batch seen: the state that a dump's `param.*` holds."""
    for module in net.modules():
        if isinstance(module, Norm):
            module.reset_running_stats()


def train_forward(net, x):
    """Logits in training mode; the running statistics are those of this one batch."""
    forget_statistics(net)
    return net.train()(x)


@torch.no_grad()
def eval_forward(net, x):
    """Logits in eval mode, with the running statistics of one training forward."""
    train_forward(net, x)
    return net.eval()(x)


def gradients(net, x, labels, surrogate):
    """(logits, loss, gradient by parameter) of one training pass."""
    for module in lifs(net).values():
        module.surrogate = surrogate
    net.zero_grad()
    logits = train_forward(net, x)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    return logits.detach(), loss.detach().reshape(1), {name: p.grad.clone() for name, p in net.named_parameters()}


def channel_margins(currents, setup):
    """`[C]`: the least distance of a channel's membranes to a jump; below 0 where it fires too rarely or too often.

    `currents` are `[T, C, N]`, one a pass. The jump at v_th counts in every pass, those of the surrogates in the first:
    only there a gradient is taken.
    """
    first, every = currents[0].shape[2], torch.cat(currents, 2)
    spikes, u = lif(every, setup.tau, setup.vth, setup.reset, "rect", 1, 0)
    v = (u - setup.vth).abs()
    margin = torch.minimum(v.amin((0, 2)), (v[..., :first] - EDGE).abs().amin((0, 2)))
    for part, (low, high) in zip((spikes[..., :first], spikes[..., first:]), FIRING):
        rate = part.mean((0, 2))
        margin = torch.where(rate < low, rate - low, torch.where(rate > high, high - rate, margin))
    return margin


@torch.no_grad()
def settle(net, setup, passes, candidates):
    """Shifts the bias of the norm before each LIF, first layer first, to the widest margin over all `passes` (the first one
    is the pass whose gradient is taken). Biases stay f32 numbers. Returns the least margin of the network."""
    least = math.inf
    for name, module in lifs(net).items():
        currents = []
        for forward in passes:
            forward()
            current = module.seen[0].expand(setup.T, *module.seen[0].shape[1:])
            currents.append(current.transpose(1, 2).flatten(2))
        best = torch.full((currents[0].shape[1],), -math.inf, dtype=torch.float64)
        bias = net.get_submodule(name.replace("lif", "bn")).bias
        settled = bias.clone()
        for shift in torch.linspace(-2 * setup.vth, 2 * setup.vth, candidates, dtype=torch.float64):
            moved = (bias + shift).float().double()
            margin = channel_margins([c + (moved - bias)[:, None] for c in currents], setup)
            settled = torch.where(margin > best, moved, settled)
            best = torch.maximum(margin, best)
        bias.copy_(settled)
        least = min(least, best.min().item())
    return least


# ---------------------------------------------------------------- checks
class Checks:
    """The worst f32-to-f64 error of a dump by kind; refuses one beyond half of the tolerance."""

    def __init__(self, dump):
        self.dump, self.worst = dump, {}

    def within(self, kind, name, error):
        self.worst[kind] = max(self.worst.get(kind, 0.0), float(error))
        limit = HALF_TOLERANCE[kind]
        self.require(error <= limit, f"{kind} error of {name} is {error:.1e}, more than {limit:.0e}")

    def absolute(self, kind, name, x, y):
        self.within(kind, name, (x.double() - y).abs().max())

    def relative(self, kind, name, x, y):
        self.within(kind, name, (x.double() - y).norm() / y.norm())

    def require(self, holds, message):
        if not holds:
            raise SystemExit(f"{self.dump}: {message}; try another seed")

    def margin(self, margin, least):
        self.require(margin >= 0, "no bias makes every channel fire within bounds")
        self.require(margin >= least, f"a membrane is only {margin:.1e} from a jump")

    def same_spikes(self, mode, net, twin):
        for (name, s), s64 in zip(spikes_of(net).items(), spikes_of(twin).values()):
            self.require(torch.equal(s, s64), f"{mode}-mode spikes of {name} differ between f32 and f64")


# ---------------------------------------------------------------- dumps
def initial_state(net, twin, x, labels):
    """Gives the f32 network its settled twin's parameters; the keys that every network dump starts with."""
    net.load_state_dict(twin.state_dict())
    forget_statistics(net)
    return {"input": x, "labels": labels} | {f"param.{name}": value.clone() for name, value in net.state_dict().items()}


def sgd_steps(net, gradient):
    """Parameters after one and two SGD steps (lr .01, momentum .9, weight decay 1e-4) along the same raw gradient."""
    stepped = copy.deepcopy(net)
    optimizer = torch.optim.SGD(stepped.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    for n in (1, 2):
        for name, p in stepped.named_parameters():
            p.grad = gradient[name].clone()
        optimizer.step()
        yield f"sgd{n}", {name: p.detach().clone() for name, p in stepped.named_parameters()}


def surrogate_part(dump, net, twin, x, labels, surrogate, checks):
    """One surrogate's keys: logits, loss, gradients (f32, f64) and SGD steps."""
    kind, parameter, detach = surrogate
    prefix = f"{kind}_{parameter:g}_detach{detach}/"
    f32 = logits, loss, gradient = gradients(net, x, labels, surrogate)
    f64 = logits64, loss64, gradient64 = gradients(twin, x.double(), labels, surrogate)
    checks.same_spikes("training", net, twin)
    checks.absolute("logits", "logits", logits, logits64)
    checks.absolute("logits", "loss", loss, loss64)
    for tag, (lg, ls, gr) in (("f32", f32), ("f64", f64)):
        dump |= {f"{prefix}logits_{tag}": lg, f"{prefix}loss_{tag}": ls}
        dump |= {f"{prefix}grad_{tag}.{name}": g for name, g in gr.items()}
    for name, g in gradient64.items():
        checks.require(g.norm() > LEAST_GRADIENT, f"{prefix} gradient of {name} is {g.norm():.1e}, next to nothing")
        checks.relative("gradient", name, gradient[name], g)
    for (step, weights), (_, weights64) in zip(sgd_steps(net, gradient), sgd_steps(twin, gradient64)):
        dump |= {f"{prefix}{step}.{name}": w for name, w in weights.items()}
        for name, w in weights.items():
            checks.relative("sgd", name, w, weights64[name])


def network_dump(setup):
    """(tensors, metadata, remarks, checks) of one training step and one evaluation of a network."""
    checks = Checks(setup.name)
    net, twin, x, labels = build(setup)
    passes = [lambda: train_forward(twin, x.double()), lambda: eval_forward(twin, x.double())]
    margin = settle(twin, setup, passes, 2001)
    checks.margin(margin, 1e-4)
    dump = initial_state(net, twin, x, labels)
    for surrogate in setup.surrogates:
        surrogate_part(dump, net, twin, x, labels, surrogate, checks)
    for name, module in lifs(net).items():
        dump |= {f"current.{name}": module.seen[0], f"spikes.{name}": module.seen[1].to(torch.uint8)}
    running, running64 = dict(net.named_buffers()), dict(twin.named_buffers())
    dump |= {f"running.{name}": value.clone() for name, value in running.items()}
    for name, value in running64.items():
        if not name.endswith("num_batches_tracked"):
            dump[f"running_f64.{name}"] = value.clone()
            checks.relative("statistics", name, running[name], value)
        if name.endswith("running_var"):  # 0.9 * 1 + 0.1 * variance
            checks.require(value.min() - 0.9 >= 0.1 * LEAST_VARIANCE, f"{name} is constant in a channel")
    rates = {name: s.float().mean().item() for name, s in spikes_of(net).items()}
    dump["eval_logits_f32"] = eval_forward(net, x)
    checks.absolute("logits", "eval logits", dump["eval_logits_f32"], eval_forward(twin, x.double()))
    checks.same_spikes("eval", net, twin)
    eval_rates = [s.float().mean().item() for s in spikes_of(net).values()]
    remarks = (f"margin {margin:.1e}, firing {min(rates.values()):.2f}..{max(rates.values()):.2f} "
               f"(eval {min(eval_rates):.2f}..{max(eval_rates):.2f})")
    return dump, setup.metadata(), remarks, checks


@torch.no_grad()
def nudged(net, forward):
    """What `forward` returns with each weight of the first conv moved by +eps and by -eps: (index, sign, value)."""
    weight = net.conv1.weight.view(-1)
    for i in range(weight.numel()):
        kept = weight[i].clone()
        for sign in (1, -1):
            weight[i] = kept + sign * FDG_EPSILON
            yield i, sign, forward()
        weight[i] = kept


def finite_difference_gradient(net, x, labels):
    """Central differences of the training-mode loss over all weights of the first conv."""
    gradient = torch.zeros(net.conv1.weight.numel(), dtype=x.dtype)
    for i, sign, loss in nudged(net, lambda: F.cross_entropy(train_forward(net, x), labels).item()):
        gradient[i] += sign * loss / (2 * FDG_EPSILON)
    return gradient.view_as(net.conv1.weight)


def fdg_dump(setup):
    """(tensors, metadata, remarks, checks) of the finite-difference gradient and the surrogate gradients beside it."""
    checks = Checks(setup.name)
    net, twin, x, labels = build(setup)

    def seen_when_nudged():
        """Runs every nudged network once and leaves all their currents, side by side in the batch, in the neurons."""
        seen = {name: [] for name in lifs(twin)}
        for _ in nudged(twin, lambda: train_forward(twin, x.double())):
            for name, module in lifs(twin).items():
                seen[name].append(module.seen[0])
        for name, module in lifs(twin).items():
            module.seen = (torch.cat(seen[name], 1), None)

    margin = settle(twin, setup, [lambda: train_forward(twin, x.double()), seen_when_nudged], 2001)
    checks.margin(margin, 1e-5)  # 216 nudged networks share each bias; f32 currents are off by 8e-7
    dump = initial_state(net, twin, x, labels)
    fdg, fdg64 = finite_difference_gradient(net, x, labels), finite_difference_gradient(twin, x.double(), labels)
    dump |= {f"fdg_eps{FDG_EPSILON}_f32": fdg, f"fdg_eps{FDG_EPSILON}_f64": fdg64}
    checks.relative("fdg", "conv1.weight", fdg, fdg64)
    for surrogate in setup.surrogates:
        prefix = f"{surrogate[0]}_{surrogate[1]:g}_detach{surrogate[2]}/"
        gradient = gradients(net, x, labels, surrogate)[2]["conv1.weight"]
        gradient64 = gradients(twin, x.double(), labels, surrogate)[2]["conv1.weight"]
        cosine, cosine64 = (F.cosine_similarity(g.double().flatten(), d.double().flatten(), 0).reshape(1)
                            for g, d in ((gradient, fdg), (gradient64, fdg64)))
        dump |= {f"{prefix}grad_f32": gradient, f"{prefix}grad_f64": gradient64}
        dump |= {f"{prefix}cos_f32": cosine, f"{prefix}cos_f64": cosine64}
        checks.relative("gradient", prefix, gradient, gradient64)
        checks.absolute("cosine", prefix, cosine, cosine64)
    return dump, setup.metadata() | {"eps": str(FDG_EPSILON)}, f"margin {margin:.1e}", checks


def lif_currents(tau, vth, reset, steps):
    """F32 `[steps, 2, 17]`: six exact edges in the first step, all other membranes at least 1e-3 from every jump."""
    edges = torch.tensor([vth, vth - EDGE, vth + EDGE, -0.0, -2.0, 3.0])
    current = 0.2 * vth + vth * torch.randn(steps, 2, 17)
    while True:
        current[0, 0, :6] = edges
        _, u = lif(current.double(), tau, vth, reset, "rect", 1, 0)
        v = (u - vth).abs()
        close = torch.minimum(v, (v - EDGE).abs()) < 1e-3
        close[0, 0, :6] = False
        if not close.any():
            return current
        current = torch.where(close, 0.2 * vth + vth * torch.randn_like(current), current)


def lif_dump(name, tau, vth, reset, steps):
    """(tensors, metadata, remarks, checks) of the neuron alone, with exact ties."""
    checks = Checks(name)
    torch.manual_seed(0)
    current = lif_currents(tau, vth, reset, steps)
    grad_spikes = torch.randn_like(current)
    dump = {"current": current, "grad_spikes": grad_spikes}
    for kind, parameter in LIF_SURROGATES:
        for detach in (0, 1):
            found = {}
            for tag, dtype in (("f32", torch.float32), ("f64", torch.float64)):
                x = current.to(dtype, copy=True).requires_grad_()
                spikes, u = lif(x, tau, vth, reset, kind, parameter, detach)
                spikes.backward(grad_spikes.to(dtype))
                found[tag] = spikes.detach().to(torch.uint8), u.detach(), x.grad
                dump |= {f"membrane_{tag}": u.detach(), f"{kind}_{parameter:g}/detach{detach}/grad_current_{tag}": x.grad}
            checks.require(torch.equal(found["f32"][0], found["f64"][0]), "spikes differ between f32 and f64")
            checks.absolute("membrane", "u", found["f32"][1], found["f64"][1])
            checks.relative("lif_gradient", f"{kind}_{parameter:g}", found["f32"][2], found["f64"][2])
            dump["spikes"] = found["f32"][0]
    metadata = {"shape": "[T,B,N]", "tau": str(tau), "vth": str(vth)} | ({"reset": reset} if reset != "hard" else {})
    return dump, metadata, f"firing {dump['spikes'].float().mean():.2f}", checks


def main():
    global ref
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ref", type=Path, required=True, help="the PyTorch reference, ref.py")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "harness/tests/fixtures")
    parser.add_argument("--only", action="append", metavar="NAME", help="a dump to write (default: all)")
    options = parser.parse_args()
    if not options.ref.is_file():
        parser.error(f"--ref {options.ref} is no file; give the path of the PyTorch reference, ref.py")
    options.out.mkdir(parents=True, exist_ok=True)
    spec = importlib.util.spec_from_file_location("ref", options.ref)
    ref = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ref)
    torch.set_num_threads(1)  # one summation order, whatever the machine

    makers = {setup.name: (network_dump, setup) for setup in NETWORKS} | {FDG.name: (fdg_dump, FDG)}
    makers |= {row[0]: (lif_dump, *row) for row in LIFS}
    if unknown := set(options.only or ()) - set(makers):
        parser.error(f"no dump named {', '.join(sorted(unknown))}; there are {', '.join(makers)}")
    for name in options.only or makers:
        make, *arguments = makers[name]
        dump, metadata, remarks, checks = make(*arguments)
        path = options.out / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in dump.items()}, path, metadata)
        errors = ", ".join(f"{kind} {error:.1e}" for kind, error in checks.worst.items())
        print(f"{name}: {path.stat().st_size} bytes; {remarks}; f32 to f64: {errors}", flush=True)


if __name__ == "__main__":
    main()
