#!/usr/bin/env python3
"""Writes report/tests/fixtures/stats_golden.json: what SciPy says about small samples.

The report's statistics (report/src/stats.rs and report/src/stats/) are tested against this file. Run again only to add cases:
    pip install scipy numpy && python3 scripts/stats_golden.py
"""

import itertools
import json
import pathlib

import numpy as np
import scipy
from scipy import stats
from scipy.special import gammaln

SAMPLES = {
    "two": [0.9312, 0.9331],
    "three": [0.9366, 0.9371, 0.9359],
    "five": [0.7424, 0.7391, 0.7460, 0.7402, 0.7455],
    "eight": [0.754, 0.749, 0.761, 0.758, 0.744, 0.752, 0.770, 0.701],
}
PAIRS = {
    "three": ([0.9366, 0.9371, 0.9359], [0.9340, 0.9352, 0.9349]),
    "five": ([0.7424, 0.7391, 0.7460, 0.7402, 0.7455], [0.7401, 0.7399, 0.7421, 0.7388, 0.7470]),
}
P_VALUES = [[0.01, 0.04, 0.03, 0.005], [0.2], [0.5, 0.5, 0.9], [0.0001, 0.02, 0.02, 0.8, 0.049]]

# (right, images): few and many images, none right, all right.
PROPORTIONS = [(0, 1), (1, 1), (0, 10), (3, 10), (10, 10), (57, 100), (9366, 10000), (9999, 10000), (123456, 1000000)]
# (only A right, only B right): no discordant image, few, many, a p below 1e-200.
DISCORDANT = [(0, 0), (0, 1), (1, 2), (5, 5), (9, 3), (0, 10), (25, 10), (412, 501), (3000, 3111), (20, 900), (5000, 5001)]
# Per-image differences, each a mean over two seeds.
IMAGES = {
    "two": [0.5, -0.5],
    "twelve": [0.0, 0.5, 0.0, -0.5, 1.0, 0.0, 0.0, 0.5, 0.0, 0.0, -1.0, 0.5],
}


def holm(p):
    """Holm's step-down, from the definition (SciPy has only the false-discovery-rate family)."""
    order = np.argsort(p, kind="stable")
    adjusted, running = np.empty(len(p)), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = running
    return adjusted.tolist()


def summary(x):
    n, mean, std = len(x), np.mean(x), np.std(x, ddof=1)
    scale = std / np.sqrt(n)
    # The exact bootstrap distribution of the mean where it can be listed (n^n resamples).
    exact = None
    if n <= 5:
        means = [np.mean(resample) for resample in itertools.product(x, repeat=n)]
        exact = np.percentile(means, [2.5, 97.5], method="inverted_cdf").tolist()
    student = stats.t(n - 1)
    return {
        "values": x,
        "mean": mean,
        "std": std,
        "interval_95": list(stats.t.interval(0.95, n - 1, mean, scale)),
        "interval_90": list(stats.t.interval(0.90, n - 1, mean, scale)),
        "bootstrap_exact_95": exact,
        "interquartile_mean": stats.trim_mean(x, 0.25) if n >= 5 else None,
        "detectable_difference": (student.ppf(0.975) + student.ppf(0.8)) * scale,
    }


def pair(a, b):
    difference = np.subtract(a, b)
    n, test = len(a), stats.ttest_rel(a, b)
    d_z = difference.mean() / difference.std(ddof=1)
    return {
        "a": a,
        "b": b,
        "difference": difference.mean(),
        "interval_95": list(test.confidence_interval(0.95)),
        "p": test.pvalue,
        "hedges_g": d_z * np.exp(gammaln((n - 1) / 2) - gammaln((n - 2) / 2)) / np.sqrt((n - 1) / 2),
    }


def proportion(right, n):
    test = stats.binomtest(right, n)
    return {
        "right": right,
        "n": n,
        "wilson_95": list(test.proportion_ci(0.95, method="wilson")),
        "wilson_90": list(test.proportion_ci(0.90, method="wilson")),
    }


def mcnemar(b, c):
    # SciPy needs at least one trial; without a discordant image there is no evidence, hence p = 1.
    return {"b": b, "c": c, "p": stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0}


def images(d):
    return {
        "differences": d,
        "difference": np.mean(d),
        "standard_error": stats.sem(d),
        "interval_95": list(stats.norm.interval(0.95, np.mean(d), stats.sem(d))),
    }


golden = {
    "scipy": scipy.__version__,
    "samples": {name: summary(x) for name, x in SAMPLES.items()},
    "pairs": {name: pair(*x) for name, x in PAIRS.items()},
    "holm": [{"p": p, "adjusted": holm(p)} for p in P_VALUES],
    "proportions": [proportion(*x) for x in PROPORTIONS],
    "mcnemar": [mcnemar(*x) for x in DISCORDANT],
    "images": {name: images(x) for name, x in IMAGES.items()},
}
target = pathlib.Path(__file__).resolve().parent.parent / "report/tests/fixtures/stats_golden.json"
target.write_text(json.dumps(golden, indent=1, default=float) + "\n")
print(target)
