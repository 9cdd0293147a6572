"""Figure: the interval is the set of shifts that the test does not reject. Writes an SVG."""

import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from cupel.stats.permutation import sign_flip

mpl.rcParams["svg.hashsalt"] = "cupel"
differences = np.array([0.031, 0.012, 0.044, -0.004, 0.027, 0.019, 0.038, 0.009])

found = sign_flip(differences, alpha=0.05)
shifts = np.linspace(-0.02, 0.06, 801)
p = [sign_flip(differences - shift).p for shift in shifts]

figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
axes.step(100 * shifts, p, where="mid", color="#0072B2")
axes.axhline(0.05, color="0.4", lw=1, ls="--")
axes.axvspan(100 * found.interval.low, 100 * found.interval.high, color="#0072B2", alpha=0.12)
axes.plot(100 * differences, np.full(8, -0.04), "|", color="0.3", ms=9)
axes.set_xlabel("hypothesised difference (percentage points); ticks: the eight seed differences")
axes.set_ylabel("sign-flip p")
axes.set_title("shaded: 95 % interval = every difference with p >= .05", fontsize=10)
target = Path(sys.argv[1] if len(sys.argv) > 1 else "p_and_interval.svg")
figure.savefig(target, metadata={"Date": None})
print(
    f"mean {100 * found.mean:+.1f} pp, p = {found.p:.4f}, interval "
    f"{100 * found.interval.low:+.1f} to {100 * found.interval.high:+.1f} pp; wrote {target}"
)
