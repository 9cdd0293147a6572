"""Log-probability and entropy of chosen tokens, with gradients: Cupel against a full softmax.

    python benchmarks/logprobs.py
    python benchmarks/logprobs.py --case 151k --rounds 5

Both sides get the same hidden states and head and return log-probabilities and entropies of the
same tokens, then carry the same slope back into hidden states and head. The reference holds the
logits of all positions, as log_softmax over the model's logits does. Time: the sides alternate in
one process of one thread; CPU seconds, the ratio is the median of pairs. Memory: each side runs in
a process of its own; what is compared is its peak beyond what it held before the call. The limit
is the time of the reference's matrix products (three; two under a frozen head) at the rate
measured before each call. Where the head is trained, Cupel computes each chunk's logits twice: a
fourth product, the price of not holding them; "known" is the same call where the slope is known
beforehand, as it is when credit looks at no score: three products.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results" / "logprobs.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """M positions of width D over V tokens; a frozen head is that of a model with adapters."""

    positions: int
    width: int
    vocabulary: int
    rounds: int
    frozen: bool = False


CASES = {
    "32k": Case(positions=2048, width=128, vocabulary=32_000, rounds=5),
    "151k": Case(positions=1024, width=128, vocabulary=151_936, rounds=3),
    "151k-adapters": Case(positions=1024, width=896, vocabulary=151_936, rounds=2, frozen=True),
    "151k-wide": Case(positions=1024, width=896, vocabulary=151_936, rounds=2),
}


def inputs(case: Case) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return hidden states [M, D], head [V, D], targets [M] and the slope [M]."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(case.positions, case.width, generator=generator, requires_grad=True)
    head = torch.randn(case.vocabulary, case.width, generator=generator) * 0.02
    targets = torch.randint(case.vocabulary, (case.positions,), generator=generator)
    slope = torch.randn(case.positions, generator=generator)
    return hidden, head.requires_grad_(not case.frozen), targets, slope


def reference(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> Any:
    """Return both from the full matrix of log-probabilities; the entropy without gradient."""
    logprobs_MV = torch.log_softmax(hidden @ head.T, dim=-1)
    with torch.no_grad():
        entropies_M = -(logprobs_MV.exp() * logprobs_MV).sum(dim=-1)
    return logprobs_MV.gather(1, targets[:, None])[:, 0], entropies_M


def chunked(
    hidden: torch.Tensor,
    head: torch.Tensor,
    targets: torch.Tensor,
    slope: torch.Tensor | None = None,
) -> Any:
    """Return both by Cupel's chunked head."""
    from cupel.policy.logprobs import chunk_tokens, logprobs_and_entropies

    chunk = chunk_tokens(head.shape[0], 0)
    return logprobs_and_entropies(hidden, head, None, targets, chunk=chunk, slope_M=slope)


OWN = ("cupel", "known")
SIDES = ("reference", *OWN)


def sides(case: Case) -> tuple[str, ...]:
    """Return the sides that differ: a frozen head computes its logits once in any case."""
    return SIDES[:2] if case.frozen else SIDES


def call(side: str, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Go forward and back once; return log-probabilities and entropies."""
    hidden, head, targets, slope = given
    hidden.grad = head.grad = None
    if side == "reference":
        logprobs, entropies = reference(hidden, head, targets)
    else:
        known = slope if side == "known" else None
        logprobs, entropies = chunked(hidden, head, targets, known)
    logprobs.backward(slope)
    return logprobs.detach(), entropies


def peak_bytes(case: Case, side: str) -> int:
    """Return how far one call raises this process's peak memory; gradients are part of it."""
    given = inputs(case)
    small = Case(positions=8, width=8, vocabulary=64, rounds=1)
    call(side, inputs(small))  # libraries and thread pools are loaded before the count
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is held now
    before = status_bytes("VmRSS")
    call(side, given)
    return status_bytes("VmHWM") - before


def status_bytes(name: str) -> int:
    """Return a size from this process's status; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def matrix_rate(case: Case) -> float:
    """Measure this moment's rate of the head's product in FLOP/s, best of a few."""
    left, right = torch.randn(256, case.width), torch.randn(case.width, 4096)
    best = float("inf")
    for _ in range(8):
        started = time.process_time()
        torch.mm(left, right)
        best = min(best, time.process_time() - started)
    return 2 * 256 * case.width * 4096 / best


def compare(case: Case, rounds: int) -> dict[str, Any]:
    """Alternate the sides in this process; also check that they agree."""
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium")
    given = inputs(case)
    found: dict[str, Any] = {}
    gradients: dict[str, torch.Tensor] = {}
    times: dict[str, list[float]] = {side: [] for side in sides(case)}
    rates = []
    for turn in range(rounds + 1):
        rates.append(matrix_rate(case))
        for side in times:
            started = time.process_time()
            found[side] = call(side, given)
            spent = time.process_time() - started
            if turn:  # the first is a warm-up
                times[side].append(spent)
            assert given[0].grad is not None
            gradients[side] = given[0].grad.clone()
    own = tuple(times)[1:]
    ratios = {
        side: [theirs / ours for theirs, ours in zip(times["reference"], times[side], strict=True)]
        for side in own
    }
    flops = 2 * case.positions * case.width * case.vocabulary
    return {
        "reference_s": statistics.median(times["reference"]),
        **{f"{side}_s": statistics.median(times[side]) for side in own},
        "ratio": {side: statistics.median(ratios[side]) for side in own},
        "ratio_range": {side: [min(ratios[side]), max(ratios[side])] for side in own},
        "limit_s": (2 if case.frozen else 3) * flops / statistics.median(rates),
        "largest_difference": {
            side: {
                "logprob": float((found[side][0] - found["reference"][0]).abs().max()),
                "entropy": float((found[side][1] - found["reference"][1]).abs().max()),
                "gradient": float((gradients[side] - gradients["reference"]).abs().max()),
            }
            for side in own
        },
        "rounds": rounds,
        "load": os.getloadavg()[0],
    }


def in_child(*words: str) -> Any:
    """Run one part in a process of its own and return what it printed."""
    command = [sys.executable, __file__, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run the cases, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--rounds", type=int, help="pairs of calls; default: the case's own")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--memory", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        case = CASES[given.child]
        torch.set_num_threads(1)
        answer: Any = (
            peak_bytes(case, given.memory)
            if given.memory
            else compare(case, given.rounds or case.rounds)
        )
        print(json.dumps(answer))
        return
    versions = {name: version(name) for name in ("torch", "numpy")}
    report = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"cases": {}}
    print(
        f"{'case':13} {'side':5} {'reference s':>11} {'cupel s':>8} {'ratio':>6} {'limit s':>8} "
        f"{'reference MiB':>13} {'cupel MiB':>9} {'share':>6}"
    )
    for name in given.case or CASES:
        rounds = ["--rounds", str(given.rounds)] if given.rounds else []
        found = in_child("--child", name, *rounds)
        compared = sides(CASES[name])
        peaks = {side: in_child("--child", name, "--memory", side) for side in compared}
        shares = {side: peaks[side] / peaks["reference"] for side in compared[1:]}
        for side, share in shares.items():
            print(
                f"{name:13} {side:5} {found['reference_s']:11.3f} {found[side + '_s']:8.3f} "
                f"{found['ratio'][side]:6.2f} {found['limit_s']:8.3f} "
                f"{peaks['reference'] / 2**20:13.0f} {peaks[side] / 2**20:9.0f} {share:6.2f}",
                flush=True,
            )
        report["cases"][name] = {
            "case": asdict(CASES[name]),
            "python": platform.python_version(),
            "versions": versions,
            **found,
            "peak_bytes": peaks,
            "memory_share": shares,
        }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
