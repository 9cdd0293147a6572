"""Figure: what a number of seeds can show. Writes an SVG."""

import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from cupel.stats.permutation import sign_flip_floor
from cupel.stats.power import mde_paired_t

mpl.rcParams["svg.hashsalt"] = "cupel"
SEEDS = list(range(3, 33))

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
left.step(SEEDS, [sign_flip_floor(n) for n in SEEDS], where="mid", color="#0072B2")
left.axhline(0.05, color="0.4", lw=1, ls="--")
left.set_yscale("log")
left.set_xlabel("seeds a condition")
left.set_ylabel("smallest reachable p, 2 / 2$^n$")
right.plot(SEEDS, [mde_paired_t(n) for n in SEEDS], color="#D55E00")
right.set_xlabel("seeds a condition")
right.set_ylabel("smallest effect found with power .8\n(sd of the seed differences)")
right.set_ylim(0, 3.5)
target = Path(sys.argv[1] if len(sys.argv) > 1 else "how_many_seeds.svg")
figure.savefig(target, metadata={"Date": None})
for n in (3, 5, 6, 8, 16):
    print(f"{n:2d} seeds: floor {sign_flip_floor(n):.5f}, finds {mde_paired_t(n):.2f} sd")
print(f"wrote {target}")
