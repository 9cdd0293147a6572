"""Figure: false alarms of the pooled test against completions a seed. Writes an SVG."""

import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from cupel.stats.permutation import sign_flip_p_values

mpl.rcParams["svg.hashsalt"] = "cupel"
SEEDS, RATE, REPEATS = 8, 0.35, 4000
COMPLETIONS = (50, 160, 500, 1600, 5000, 16000)
COLOURS = ("#009E73", "#E69F00", "#D55E00")

rng = np.random.default_rng(1)
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
for run_sd, colour in zip((0.0, 0.01, 0.02), COLOURS, strict=True):
    pooled, paired = [], []
    for completions in COMPLETIONS:
        rates = np.clip(RATE + rng.normal(0, run_sd, (2, REPEATS, SEEDS)), 0.01, 0.99)
        right = rng.binomial(completions, rates)
        total = SEEDS * completions
        a, b = right.sum(axis=2) / total
        mean = (a + b) / 2
        z = (b - a) / np.sqrt(2 * mean * (1 - mean) / total)  # Fisher's large-sample twin
        pooled.append(float((2 * stats.norm.sf(np.abs(z)) < 0.05).mean()))
        p = sign_flip_p_values((right[1] - right[0]) / completions)
        paired.append(float((p < 0.05).mean()))
    label = f"runs of one method differ by {100 * run_sd:.0f} pp (sd)"
    axes.plot(COMPLETIONS, pooled, color=colour, marker="o", label=f"pooled, {label}")
    axes.plot(COMPLETIONS, paired, color=colour, marker="s", ls=":", label=f"seeds, {label}")
    print(f"run sd {run_sd}: pooled {pooled}, seeds {paired}")
axes.axhline(0.05, color="0.4", lw=1, ls="--")
axes.set_xscale("log")
axes.set_xlabel("completions per run")
axes.set_ylabel("false alarms at alpha = .05")
axes.legend(fontsize=7, frameon=False)
target = Path(sys.argv[1] if len(sys.argv) > 1 else "why_not_pooled.svg")
figure.savefig(target, metadata={"Date": None})
print(f"wrote {target}")
