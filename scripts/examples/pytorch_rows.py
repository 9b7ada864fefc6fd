"""Trains two small spiking networks in PyTorch and records every run, so that the harness can compare them.

    python3 scripts/examples/pytorch_rows.py rows.csv
    harness report rows.csv

It needs `torch` only. The data are random points made here, so a run takes seconds and downloads nothing. The two
methods differ in the surrogate gradient. A script of your own needs the one call of `add_row` at the end of a run.
"""
import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from rows_writer import add_row  # noqa: E402

TIME_STEPS, TAU, THRESHOLD = 4, 0.5, 1.0
CLASSES, FEATURES, HIDDEN = 4, 16, 64
LEARNING_RATE, EPOCHS, BATCH = 0.1, 10, 50


def rectangle(distance):
    return (distance.abs() < 0.5).float()


def sigmoid(distance):
    s = torch.sigmoid(4 * distance)
    return 4 * s * (1 - s)


class Spike(torch.autograd.Function):
    """1 from the threshold on, else 0; the surrogate stands in for the derivative."""

    @staticmethod
    def forward(ctx, distance, surrogate):
        ctx.save_for_backward(distance)
        ctx.surrogate = surrogate
        return (distance >= 0).float()

    @staticmethod
    def backward(ctx, gradient):
        (distance,) = ctx.saved_tensors
        return gradient * ctx.surrogate(distance), None


class Net(nn.Module):
    """Two layers with leaky integrate-and-fire neurons between them; logits are averaged over the time steps."""

    def __init__(self, surrogate):
        super().__init__()
        self.first, self.last, self.surrogate = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES), surrogate

    def forward(self, x):
        current, membrane, logits = self.first(x), 0.0, 0.0
        for _ in range(TIME_STEPS):
            membrane = TAU * membrane + current
            spikes = Spike.apply(membrane - THRESHOLD, self.surrogate)
            membrane = membrane * (1 - spikes)
            logits = logits + self.last(spikes) / TIME_STEPS
        return logits


def points(count, generator):
    """Normal clouds around one corner of a cube per class."""
    corners = torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(1234))
    labels = torch.randint(CLASSES, (count,), generator=generator)
    return corners[labels] + 1.5 * torch.randn(count, FEATURES, generator=generator), labels


def top1_after_training(surrogate, seed):
    # The data are the same for every run; the seed changes the initial weights and the order of the batches.
    generator = torch.Generator().manual_seed(0)
    (x, y), (test_x, test_y) = points(1000, generator), points(500, generator)
    torch.manual_seed(seed)
    net = Net(surrogate)
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=0.9)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            loss = nn.functional.cross_entropy(net(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        right = (net(test_x).argmax(dim=1) == test_y).sum().item()
    return right / len(test_y), len(test_y)


if __name__ == "__main__":
    path = sys.argv[1] if len(sys.argv) > 1 else "rows.csv"
    for method, surrogate in (("rectangle", rectangle), ("sigmoid", sigmoid)):
        for seed in range(3):
            top1, test_samples = top1_after_training(surrogate, seed)
            add_row(path, method, "clouds", "clouds/generated", TIME_STEPS, seed, top1, test_samples=test_samples,
                    lr=LEARNING_RATE, epochs=EPOCHS, batch=BATCH, note_torch=torch.__version__)
            print(f"{method}, seed {seed}: {100 * top1:.2f} %")
