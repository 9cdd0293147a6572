"""Sampling completions: Cupel's policy against `generate` of the transformers library.

    python benchmarks/sampling.py                # all cases
    python benchmarks/sampling.py --case large-group --rounds 5

Both sides hold the same small decoder and draw the same forced number of tokens at T = 1 without
truncation. Cupel also returns each token's log-probability under the sampler and the policy,
`generate` only the tokens. A call of each follows the other inside one process, so that load on
the machine meets both; times are CPU seconds, the ratio is the median over pairs. The limit is the
time of the useful matrix products, each prompt read once, at the rate measured before each call.
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
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, LAYERS = 128, 4
RESULTS = Path(__file__).parent / "results" / "sampling.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Sizes of one comparison."""

    prompts: int
    prompt_tokens: int
    group_size: int
    new_tokens: int
    vocabulary: int
    rounds: int
    threads: int = 1


CASES = {
    "short": Case(
        prompts=16, prompt_tokens=6, group_size=8, new_tokens=32, vocabulary=345, rounds=7
    ),
    "large-group": Case(
        prompts=4, prompt_tokens=512, group_size=32, new_tokens=16, vocabulary=345, rounds=5
    ),
    "long-completion": Case(
        prompts=8, prompt_tokens=16, group_size=4, new_tokens=256, vocabulary=345, rounds=3
    ),
    "short-32k": Case(
        prompts=8, prompt_tokens=16, group_size=8, new_tokens=16, vocabulary=32_000, rounds=3
    ),
    "large-group-32k": Case(
        prompts=4, prompt_tokens=512, group_size=16, new_tokens=16, vocabulary=32_000, rounds=3
    ),
    "short-151k": Case(
        prompts=4, prompt_tokens=16, group_size=8, new_tokens=8, vocabulary=151_936, rounds=3
    ),
}


def make_model(vocabulary: int, attention: str) -> Any:
    """Make a decoder of the Qwen3 kind with random weights, the same on every side."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=3 * WIDTH,
        tie_word_embeddings=True,
        initializer_range=0.04,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    return Qwen3ForCausalLM(config).eval()


def cupel_side(case: Case, prompts: np.ndarray) -> Callable[[], None]:
    """Return one call of Cupel's sampler."""
    from cupel.policy.causal_lm import CausalLM
    from cupel.policy.sampling import sample_completions

    lm = CausalLM(make_model(case.vocabulary, "eager"), attention="eager", precision="medium")
    rng = np.random.default_rng(1)

    def call() -> None:
        rows = case.prompts * case.group_size
        found = sample_completions(
            lm,
            prompts.tolist(),
            group_size=case.group_size,
            max_tokens=case.new_tokens,
            temperature=1.0,
            top_p=1.0,
            uniforms_NT=rng.random((rows, case.new_tokens)),
            stop_ids=[],
            pad_id=0,
            max_rows=rows,
        )
        assert found.tokens_NT.shape == (rows, case.new_tokens)

    return call


def generate_side(case: Case, prompts: np.ndarray) -> Callable[[], None]:
    """Return one call of `generate`, every prompt repeated for its group as its users do."""
    import torch

    model = make_model(case.vocabulary, "sdpa")
    ids = torch.from_numpy(prompts).repeat_interleave(case.group_size, dim=0)

    def call() -> None:
        with torch.inference_mode():
            found = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                min_new_tokens=case.new_tokens,
                max_new_tokens=case.new_tokens,
            )
        assert found.shape == (len(ids), case.prompt_tokens + case.new_tokens)

    return call


def matrix_rate() -> float:
    """Measure this moment's matrix rate in FLOP/s, best of a few."""
    import torch

    left, right = torch.randn(1024, 384), torch.randn(384, 384)
    best = float("inf")
    for _ in range(12):
        started = time.process_time()
        torch.mm(left, right)
        best = min(best, time.process_time() - started)
    return 2 * 1024 * 384 * 384 / best


def useful_flops(case: Case) -> float:
    """Return the matrix FLOPs of one call: every prompt once, every new token once."""
    layer = WIDTH * (4 * 32 + 2 * 2 * 32 + 4 * 32) + 3 * WIDTH * 3 * WIDTH
    seen = case.prompt_tokens + case.new_tokens / 2
    token = 2 * LAYERS * (layer + 2 * WIDTH * seen)
    head = 2 * WIDTH * case.vocabulary
    sampled = case.prompts * case.group_size * case.new_tokens
    return case.prompts * case.prompt_tokens * token + sampled * (token + head)


def compare(case: Case, rounds: int) -> dict[str, Any]:
    """Alternate the two sides in this process; return medians, ratio and share of the limit."""
    import torch

    torch.set_num_threads(case.threads)
    torch.set_float32_matmul_precision("medium")  # the faster float32 kernels, for both sides
    rng = np.random.default_rng(0)
    prompts = rng.integers(3, case.vocabulary, (case.prompts, case.prompt_tokens))
    sides = {"generate": generate_side(case, prompts), "cupel": cupel_side(case, prompts)}
    times: dict[str, list[float]] = {name: [] for name in sides}
    rates = []
    for turn in range(rounds + 1):
        rates.append(matrix_rate())
        for name, call in sides.items():
            started = time.process_time()
            call()
            if turn:  # the first is a warm-up
                times[name].append(time.process_time() - started)
    ratios = [theirs / ours for theirs, ours in zip(times["generate"], times["cupel"], strict=True)]
    limit = useful_flops(case) / statistics.median(rates)
    ours = statistics.median(times["cupel"])
    tokens = case.prompts * case.group_size * case.new_tokens
    return {
        "generate_s": statistics.median(times["generate"]),
        "cupel_s": ours,
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "tokens_per_s": tokens / ours,
        "limit_s": limit,
        "share_of_limit": limit / ours,
        "rounds": rounds,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Run the cases, each in a process of its own; print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--rounds", type=int, help="pairs of calls; default: the case's own")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        case = CASES[given.child]
        print(json.dumps(compare(case, given.rounds or case.rounds)))
        return
    versions = {name: version(name) for name in ("torch", "transformers", "numpy")}
    report = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"cases": {}}
    print(f"{'case':16} {'generate s':>10} {'cupel s':>8} {'ratio':>6} {'tokens/s':>9} limit share")
    for name in given.case or CASES:
        rounds = ["--rounds", str(given.rounds)] if given.rounds else []
        command = [sys.executable, __file__, "--child", name, *rounds]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{name:16} {found['generate_s']:10.3f} {found['cupel_s']:8.3f} {found['ratio']:6.2f} "
            f"{found['tokens_per_s']:9.0f} {found['share_of_limit']:5.0%}",
            flush=True,
        )
        report["cases"][name] = {
            "case": asdict(CASES[name]),
            "python": platform.python_version(),
            "versions": versions,
            **found,
        }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
