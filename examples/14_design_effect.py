"""Figure: how little correlation undoes 342 of 1024 against 298 of 1024. Writes an SVG."""

import math
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from cupel.stats.proportions import fisher_exact

mpl.rcParams["svg.hashsalt"] = "cupel"


N, BASELINE, CANDIDATE = 1024, 298, 342
MEAN = (BASELINE + CANDIDATE) / (2 * N)
Z = (CANDIDATE - BASELINE) / N / math.sqrt(2 * MEAN * (1 - MEAN) / N)


def p_at(effect: float) -> float:
    """Return the p of the pooled z-test when every completion counts for 1 / effect."""
    return float(2 * stats.norm.sf(Z / math.sqrt(effect)))


effects = np.linspace(1, 6, 101)
crossing = (Z / float(stats.norm.isf(0.025))) ** 2
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.plot(effects, [p_at(effect) for effect in effects], color="#0072B2")
axes.axhline(0.05, color="0.4", lw=1, ls="--")
axes.axvline(crossing, color="#D55E00", lw=1)
axes.set_xlabel("design effect: variance between runs / variance of independent completions")
axes.set_ylabel("p of the pooled z-test")
axes.set_title(f"significant only while the design effect is below {crossing:.3f}", fontsize=10)
target = Path(sys.argv[1] if len(sys.argv) > 1 else "design_effect.svg")
figure.savefig(target, metadata={"Date": None})
fisher = fisher_exact((BASELINE, N), (CANDIDATE, N)).p
print(f"if independent: Fisher p = {fisher:.4f}, z-test p = {p_at(1):.4f}")
print(f"z-test above .05 from a design effect of {crossing:.3f} on")
print(f"intraclass correlation that does it in groups of 16: {(crossing - 1) / 15:.4f}")
print(f"wrote {target}")
