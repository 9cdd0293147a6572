"""One RL step of a tiny model: Cupel's policy against TRL's GRPOTrainer, in alternation.

    python benchmarks/rl_step.py                 # all cases; needs the extra 'bench'
    python benchmarks/rl_step.py --rounds 5 --case short-1

Both sides train the same 0.8 M-parameter decoder on prompts of the same length, draw the same
forced number of tokens, decode them to text, score them with the same reward and take one AdamW
step on every row. A TRL step and a Cupel step follow each other inside one process, so that load
on the machine meets both; the ratio is the median over such pairs. TRL runs as installed, with
Cupel's matmul precision, and with that precision and eager attention. Checkpointed activations
and bf16, on by default in TRL, are off on both sides. The limit is the time of the useful matrix
products at the matrix rate measured before each step.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

PROMPTS, NEW_TOKENS, VOCABULARY = 16, 32, 345
WARM_UP = 2
TRL_SIDES = {
    "trl": ("highest", "sdpa"),
    "trl, same precision": ("medium", "sdpa"),
    "trl, same precision, eager": ("medium", "eager"),
}
RESULTS = Path(__file__).parent / "results" / "rl_step.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Sizes and threads of one comparison."""

    prompt_tokens: int
    group_size: int
    threads: int
    rounds: int


CASES = {
    "short-1": Case(prompt_tokens=6, group_size=8, threads=1, rounds=15),
    "short-2": Case(prompt_tokens=6, group_size=8, threads=2, rounds=15),
    "long-1": Case(prompt_tokens=256, group_size=16, threads=1, rounds=5),
}


def words() -> list[str]:
    """Return the vocabulary's words; a leading space belongs to each."""
    return [f" w{index:03d}" for index in range(4, VOCABULARY)]


def make_model(attention: str) -> Any:
    """Make the 832,000-parameter decoder; the same weights on every side."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=384,
        tie_word_embeddings=True,
        initializer_range=0.04,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    return Qwen3ForCausalLM(config)


def make_tokenizer() -> Any:
    """Make the closed word tokenizer; prompts open with <bos>."""
    from cupel.policy.tiny import tiny_tokenizer

    return tiny_tokenizer(("<pad>", "<bos>", "<eos>", "<unk>"), words())


def draw_prompts(count: int, length: int) -> list[str]:
    """Draw prompts whose ids, <bos> included, are `length` long."""
    rng, vocabulary = np.random.default_rng(0), words()
    return ["".join(rng.choice(vocabulary, length - 1)) for _ in range(count)]


def reward_of(ids: list[int]) -> float:
    """Reward of one completion; differs within every group."""
    return float(sum(ids) % 97)


class CupelSide:
    """Cupel's step."""

    def __init__(self, case: Case, prompts: list[str]) -> None:
        from cupel.policy import PolicyConfig
        from cupel.policy.torch_policy import TorchPolicy

        config = PolicyConfig(backend="torch")
        self.policy = TorchPolicy(
            make_model("eager"), make_tokenizer(), config, threads=case.threads
        )
        self.policy.stop_ids = []
        self._case, self._prompts = case, prompts
        self._rng = np.random.default_rng(1)

    def step(self) -> None:
        """Sample, decode, reward, centre, update."""
        from cupel.policy import LossConfig

        group_size, tokenizer = self._case.group_size, self.policy.tokenizer
        rows = PROMPTS * group_size
        chosen = self._rng.choice(len(self._prompts), PROMPTS, replace=False)
        completions = self.policy.sample(
            [tokenizer.encode(self._prompts[index]) for index in chosen],
            group_size=group_size,
            max_tokens=NEW_TOKENS,
            temperature=1.0,
            top_p=1.0,
            uniforms_NT=self._rng.random((rows, NEW_TOKENS)),
        )
        ids = completions.tokens_NT.tolist()
        assert all(tokenizer.decode(row) for row in ids)
        rewards = np.array([reward_of(row) for row in ids]).reshape(PROMPTS, group_size)
        spread = rewards.std(axis=1, ddof=1, keepdims=True) + 1e-4
        advantages_N = ((rewards - rewards.mean(axis=1, keepdims=True)) / spread).ravel()
        result = self.policy.update(
            completions,
            trained_N=np.ones(rows, dtype=np.bool_),
            credit=lambda rows_B, logprobs, entropies: np.broadcast_to(
                advantages_N[rows_B, None], logprobs.shape
            ),
            loss=LossConfig(kind="ppo"),
            lr=1e-4,
        )
        assert result.trained_tokens == rows * NEW_TOKENS


def gemm_rate(precision: str) -> float:
    """Measure this moment's matrix rate in FLOP/s, best of a few."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    left, right = torch.randn(1024, 384), torch.randn(384, 384)
    best = float("inf")
    for _ in range(12):
        started = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - started)
    torch.set_float32_matmul_precision(before)
    return 2 * 1024 * 384 * 384 / best


def useful_flops(case: Case, model: Any) -> float:
    """Return the step's matrix FLOPs, each prompt read once: 2 N a token forward, 4 N backward."""
    weights = sum(p.numel() for p in model.parameters() if p.dim() == 2)  # the tied head included
    rows = PROMPTS * case.group_size
    attention = 4 * 4 * 128 * (case.prompt_tokens + NEW_TOKENS / 2)  # layers x (qk + av) x width
    read = PROMPTS * case.prompt_tokens
    sampled = rows * NEW_TOKENS
    return (2 * weights + attention) * (read + sampled) * (1 + 3)


def make_trainer(case: Case, prompts: list[str], attention: str, steps: int, folder: str) -> Any:
    """Make TRL's trainer for the same work."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    settings = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=PROMPTS * case.group_size,
        num_generations=case.group_size,
        max_completion_length=NEW_TOKENS,
        generation_kwargs={"min_new_tokens": NEW_TOKENS},
        max_steps=steps,
        learning_rate=1e-4,
        beta=0.0,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )
    return GRPOTrainer(
        model=make_model(attention),
        processing_class=make_tokenizer(),
        reward_funcs=lambda completion_ids, **_: [reward_of(list(ids)) for ids in completion_ids],
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        args=settings,
    )


def run_pairs(case: Case, side: str, rounds: int) -> dict[str, Any]:
    """Alternate TRL's and Cupel's steps in this process; return times and ratios."""
    import torch
    from transformers import TrainerCallback

    warnings.simplefilter("ignore")
    torch.set_num_threads(case.threads)
    precision, attention = TRL_SIDES[side]
    torch.set_float32_matmul_precision(precision)
    prompts = draw_prompts(256, case.prompt_tokens)
    cupel = CupelSide(case, prompts)
    times: dict[str, list[float]] = {"trl": [], "cupel": [], "rate": []}

    class Alternate(TrainerCallback):
        """After each TRL step, time it and take a Cupel step before TRL goes on."""

        resumed = 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            if self.resumed == 0.0:
                self.resumed = time.perf_counter()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times["trl"].append(time.perf_counter() - self.resumed)
            started = time.perf_counter()
            cupel.step()
            times["cupel"].append(time.perf_counter() - started)
            times["rate"].append(gemm_rate("medium"))
            self.resumed = time.perf_counter()

    with tempfile.TemporaryDirectory() as scratch:
        trainer = make_trainer(case, prompts, attention, rounds + WARM_UP, scratch)
        trainer.add_callback(Alternate())
        trainer.train()
    return summary(case, cupel, {name: values[WARM_UP:] for name, values in times.items()})


def summary(case: Case, cupel: CupelSide, times: dict[str, list[float]]) -> dict[str, Any]:
    """Return medians, the median ratio of pairs, and the share of the limit."""
    ratios = [trl / own for trl, own in zip(times["trl"], times["cupel"], strict=True)]
    flops = useful_flops(case, cupel.policy.lm.model)
    shares = [flops / rate / own for rate, own in zip(times["rate"], times["cupel"], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "trl_s": statistics.median(times["trl"]),
        "cupel_s": statistics.median(times["cupel"]),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [quartiles[0], quartiles[2]],
        "gemm_gflops": statistics.median(times["rate"]) / 1e9,
        "limit_s": flops / statistics.median(times["rate"]),
        "share_of_limit": statistics.median(shares),
        "rounds": len(ratios),
        "load": os.getloadavg()[0],
        "cupel_precision": cupel.policy.lm.precision,
    }


def versions() -> dict[str, str]:
    """Return the versions that the numbers belong to."""
    from importlib.metadata import version

    names = ("torch", "transformers", "trl", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def in_child(name: str, side: str, rounds: int) -> dict[str, Any]:
    """Run one comparison in its own process: threads and precision start clean."""
    command = [sys.executable, __file__, "--child", name, side, "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name} / {side} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run the cases, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--rounds", type=int, help="pairs of steps; default: the case's own")
    parser.add_argument("--child", nargs=2, metavar=("CASE", "SIDE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if importlib.util.find_spec("trl") is None or importlib.util.find_spec("datasets") is None:
        raise SystemExit("this benchmark needs the extra 'bench': pip install 'cupel[torch,bench]'")
    if arguments.child:
        name, side = arguments.child
        print(json.dumps(run_pairs(CASES[name], side, arguments.rounds or CASES[name].rounds)))
        return
    report: dict[str, Any] = {"cases": {}}
    if RESULTS.exists():
        report = json.loads(RESULTS.read_text())
    print(
        f"{'case':8} {'against':27} {'trl s':>7} {'cupel s':>8} {'ratio':>6} {'limit s':>8} share"
    )
    for name in arguments.case or CASES:
        entry: dict[str, Any] = {"case": asdict(CASES[name]), "versions": versions()}
        entry |= {"cpus": os.cpu_count(), "against": {}}
        for side in TRL_SIDES:
            found = in_child(name, side, arguments.rounds or CASES[name].rounds)
            entry["against"][side] = found
            print(
                f"{name:8} {side:27} {found['trl_s']:7.3f} {found['cupel_s']:8.3f} "
                f"{found['ratio']:6.2f} {found['limit_s']:8.3f} {found['share_of_limit']:5.0%}",
                flush=True,
            )
        report["cases"][name] = entry
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
