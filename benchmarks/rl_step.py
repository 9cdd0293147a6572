"""One RL step of a tiny model: Cupel's policy against TRL's GRPOTrainer, in alternation.

    python benchmarks/rl_step.py                 # all cases; needs the extra 'bench'
    python benchmarks/rl_step.py --rounds 5 --case short-1 --against "trl, same precision"

Both sides train the same four-layer decoder of width 128 on prompts of the same length, draw the
same forced number of tokens, decode them to text, score them with the same reward and take one
AdamW step on every row. A TRL step and a Cupel step follow each other inside one process, so that
load on the machine meets both; a ratio is the median over such pairs, of wall time and of CPU time.
TRL runs as installed, with Cupel's matmul precision, and with that precision and eager attention.
Checkpointed activations and bf16, on by default in TRL, are off on both sides. The limit is the
time of the useful matrix products at the matrix rate measured before each step.
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

WARM_UP = 2
TRL_SIDES = {
    "trl": ("highest", "sdpa"),
    "trl, same precision": ("medium", "sdpa"),
    "trl, same precision, eager": ("medium", "eager"),
}
RESULTS = Path(__file__).parent / "results" / "rl_step.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Sizes and threads of one comparison; an untied head is a matrix of its own."""

    prompt_tokens: int
    group_size: int
    threads: int = 1
    rounds: int
    prompts: int = 16
    new_tokens: int = 32
    vocabulary: int = 345
    tied: bool = True

    @property
    def rows(self) -> int:
        """Completions of a step."""
        return self.prompts * self.group_size


CASES = {
    "short-1": Case(prompt_tokens=6, group_size=8, rounds=15),
    "short-2": Case(prompt_tokens=6, group_size=8, threads=2, rounds=15),
    "long-1": Case(prompt_tokens=256, group_size=16, rounds=5),
    "completion-1": Case(prompt_tokens=16, prompts=4, group_size=4, new_tokens=512, rounds=5),
    "32k-1": Case(
        prompt_tokens=16, prompts=8, group_size=8, vocabulary=32_000, tied=False, rounds=3
    ),
    "151k-1": Case(
        prompt_tokens=16, prompts=4, group_size=8, new_tokens=16, vocabulary=151_936, rounds=3
    ),
}


def words(vocabulary: int) -> list[str]:
    """Return the vocabulary's words; a leading space belongs to each."""
    return [f" w{index:03d}" for index in range(4, vocabulary)]


def make_model(case: Case, attention: str) -> Any:
    """Make the decoder, 832,000 parameters with the small vocabulary; the same on every side."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=case.vocabulary,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=384,
        tie_word_embeddings=case.tied,
        initializer_range=0.04,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    return Qwen3ForCausalLM(config)


def make_tokenizer(vocabulary: int) -> Any:
    """Make the closed word tokenizer; prompts open with <bos>."""
    from cupel.policy.tiny import tiny_tokenizer

    return tiny_tokenizer(("<pad>", "<bos>", "<eos>", "<unk>"), words(vocabulary))


def draw_prompts(case: Case, count: int = 256) -> list[str]:
    """Draw prompts whose ids, <bos> included, are as long as the case says."""
    rng, vocabulary = np.random.default_rng(0), np.array(words(case.vocabulary))
    return ["".join(rng.choice(vocabulary, case.prompt_tokens - 1)) for _ in range(count)]


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
            make_model(case, "eager"),
            make_tokenizer(case.vocabulary),
            config,
            threads=case.threads,
        )
        self.policy.stop_ids = []
        self._case, self._prompts = case, prompts
        self._rng = np.random.default_rng(1)

    def step(self) -> None:
        """Sample, decode, reward, centre, update."""
        from cupel.policy import KnownCredit, LossConfig

        case, tokenizer = self._case, self.policy.tokenizer
        chosen = self._rng.choice(len(self._prompts), case.prompts, replace=False)
        completions = self.policy.sample(
            [tokenizer.encode(self._prompts[index]) for index in chosen],
            group_size=case.group_size,
            max_tokens=case.new_tokens,
            temperature=1.0,
            top_p=1.0,
            uniforms_NT=self._rng.random((case.rows, case.new_tokens)),
        )
        ids = completions.tokens_NT.tolist()
        assert all(tokenizer.decode(row) for row in ids)
        rewards = np.array([reward_of(row) for row in ids]).reshape(case.prompts, -1)
        spread = rewards.std(axis=1, ddof=1, keepdims=True) + 1e-4
        advantages_N1 = ((rewards - rewards.mean(axis=1, keepdims=True)) / spread).reshape(-1, 1)
        result = self.policy.update(
            completions,
            trained_N=np.ones(case.rows, dtype=np.bool_),
            credit=KnownCredit(advantages_NT=advantages_N1 * np.ones(case.new_tokens)),
            loss=LossConfig(kind="ppo"),
            lr=1e-4,
        )
        assert result.trained_tokens == case.rows * case.new_tokens


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
    head = model.get_output_embeddings().weight.numel()
    body = model.get_decoder().layers
    layers = sum(p.numel() for p in body.parameters() if p.dim() == 2)
    # layers x (qk + av) x width
    attention = 4 * 4 * 128 * (case.prompt_tokens + case.new_tokens / 2)
    sampled = case.rows * case.new_tokens
    tokens = case.prompts * case.prompt_tokens + sampled
    return ((2 * layers + attention) * tokens + 2 * head * sampled) * (1 + 3)


def make_trainer(case: Case, prompts: list[str], attention: str, steps: int, folder: str) -> Any:
    """Make TRL's trainer for the same work."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    settings = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=case.rows,
        num_generations=case.group_size,
        max_completion_length=case.new_tokens,
        generation_kwargs={"min_new_tokens": case.new_tokens},
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
        model=make_model(case, attention),
        processing_class=make_tokenizer(case.vocabulary),
        reward_funcs=lambda completion_ids, **_: [reward_of(list(ids)) for ids in completion_ids],
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        args=settings,
    )


def now() -> tuple[float, float]:
    """Return wall and CPU time."""
    return time.perf_counter(), time.process_time()


def note(times: dict[str, list[float]], side: str, started: tuple[float, float]) -> None:
    """Add a step's wall and CPU time."""
    wall, cpu = now()
    times[side].append(wall - started[0])
    times[side + "_cpu"].append(cpu - started[1])


def run_pairs(case: Case, side: str, rounds: int) -> dict[str, Any]:
    """Alternate TRL's and Cupel's steps in this process; return times and ratios."""
    import torch
    from transformers import TrainerCallback

    warnings.simplefilter("ignore")
    torch.set_num_threads(case.threads)
    precision, attention = TRL_SIDES[side]
    torch.set_float32_matmul_precision(precision)
    prompts = draw_prompts(case)
    cupel = CupelSide(case, prompts)
    names = ("trl", "trl_cpu", "cupel", "cupel_cpu", "rate")
    times: dict[str, list[float]] = {name: [] for name in names}

    class Alternate(TrainerCallback):
        """After each TRL step, time it and take a Cupel step before TRL goes on."""

        resumed: tuple[float, float] | None = None

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.resumed = self.resumed or now()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            assert self.resumed is not None
            note(times, "trl", self.resumed)
            started = now()
            cupel.step()
            note(times, "cupel", started)
            times["rate"].append(gemm_rate("medium"))
            self.resumed = now()

    with tempfile.TemporaryDirectory() as scratch:
        trainer = make_trainer(case, prompts, attention, rounds + WARM_UP, scratch)
        trainer.add_callback(Alternate())
        trainer.train()
    return summary(case, cupel, {name: values[WARM_UP:] for name, values in times.items()})


def summary(case: Case, cupel: CupelSide, times: dict[str, list[float]]) -> dict[str, Any]:
    """Return medians, the median ratio of pairs, and the share of the limit."""
    ratios, cpu_ratios = (
        [trl / own for trl, own in zip(times["trl" + of], times["cupel" + of], strict=True)]
        for of in ("", "_cpu")
    )
    flops = useful_flops(case, cupel.policy.lm.model)
    shares = [flops / rate / own for rate, own in zip(times["rate"], times["cupel"], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "trl_s": statistics.median(times["trl"]),
        "cupel_s": statistics.median(times["cupel"]),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [quartiles[0], quartiles[2]],
        "trl_cpu_s": statistics.median(times["trl_cpu"]),
        "cupel_cpu_s": statistics.median(times["cupel_cpu"]),
        "cpu_ratio": statistics.median(cpu_ratios),
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
    parser.add_argument("--against", choices=TRL_SIDES, action="append", help="default: all")
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
        f"{'case':12} {'against':27} {'trl s':>7} {'cupel s':>8} {'ratio':>6} {'CPU s':>7} "
        f"{'CPU s':>7} {'ratio':>6} {'limit s':>8} share"
    )
    for name in arguments.case or CASES:
        entry: dict[str, Any] = {"case": asdict(CASES[name]), "versions": versions()}
        entry |= {"cpus": os.cpu_count(), "against": {}}
        for side in arguments.against or TRL_SIDES:
            found = in_child(name, side, arguments.rounds or CASES[name].rounds)
            entry["against"][side] = found
            print(
                f"{name:12} {side:27} {found['trl_s']:7.3f} {found['cupel_s']:8.3f} "
                f"{found['ratio']:6.2f} {found['trl_cpu_s']:7.3f} {found['cupel_cpu_s']:7.3f} "
                f"{found['cpu_ratio']:6.2f} {found['limit_s']:8.3f} "
                f"{found['share_of_limit']:5.0%}",
                flush=True,
            )
        if not arguments.against:  # a part is no entry
            report["cases"][name] = entry
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
