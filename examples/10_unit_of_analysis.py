"""Figure: the same eight seeds seen as 16 runs and as 25,600 completions. Writes an SVG."""

import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from cupel.stats.permutation import sign_flip
from cupel.stats.proportions import fisher_exact

mpl.rcParams["svg.hashsalt"] = "cupel"
SEEDS, COMPLETIONS, RATE, RUN_SD = 8, 1600, 0.35, 0.03

rng = np.random.default_rng(3)
rates = RATE + rng.normal(0, RUN_SD, (2, SEEDS))  # no difference between the arms: noise of runs
right = rng.binomial(COMPLETIONS, rates)
pooled = fisher_exact(
    (int(right[0].sum()), SEEDS * COMPLETIONS), (int(right[1].sum()), SEEDS * COMPLETIONS)
)
seeds = sign_flip((right[1] - right[0]) / COMPLETIONS)

figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
for seed in range(SEEDS):
    axes.plot([0, 1], right[:, seed] / COMPLETIONS, color="0.6", lw=1, marker="o", ms=4)
axes.plot([0, 1], right.mean(axis=1) / COMPLETIONS, color="#0072B2", lw=3, marker="o")
axes.set_xticks([0, 1], ["baseline", "candidate (the same method)"])
axes.set_ylabel("correct rate of a run")
axes.set_xlim(-0.3, 1.3)
axes.set_title(
    f"no true difference: pooled Fisher p = {pooled.p:.4f}, eight seed pairs p = {seeds.p:.2f}",
    fontsize=10,
)
target = Path(sys.argv[1] if len(sys.argv) > 1 else "unit_of_analysis.svg")
figure.savefig(target, metadata={"Date": None})
print(f"pooled Fisher p = {pooled.p:.4f}; sign-flip on seeds p = {seeds.p:.3f}; wrote {target}")
