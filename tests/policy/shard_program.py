"""What two processes that share one policy say about it; torch's launcher starts it.

Each case trains a divided policy beside one that every process holds whole, and writes what the
tests compare.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cupel.errors import AlgorithmicFailure
from cupel.policy.config import PolicyConfig
from cupel.policy.load import load_torch_policy
from cupel.policy.parallel import DataParallelPolicy, data_parallel
from cupel.policy.protocol import Completions, KnownCredit, LossConfig
from cupel.policy.ranks import ProcessRanks, current_ranks, joined, leave

PROMPTS = ([5, 6, 7, 8], [9, 10, 11], [12, 13, 14, 15, 16], [17], [18, 19])
GROUP, TOKENS, STEPS = 2, 8, 2
CASES: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "recomputed": {"activation_checkpointing": True},
    "adapters": {"lora": {"rank": 4}, "dtype": "bfloat16"},
}


def main(model: Path, out: Path) -> None:
    """Run every case; the first process writes `out/said.json`."""
    said = {}
    with joined("cpu"):
        ranks = current_ranks()
        assert ranks is not None
        for name, settings in CASES.items():
            said[name] = ranks.all_gather(case(model, out / name, settings, ranks))
    if ranks.is_first:
        (out / "said.json").write_text(json.dumps(said))


def case(model: Path, folder: Path, settings: dict[str, Any], ranks: ProcessRanks) -> Any:
    """Train both policies, save both, load each into the other."""

    def policy_of(shard: str) -> DataParallelPolicy:
        config = PolicyConfig.model_validate(
            {"backend": "torch", "model": str(model), "microbatch_tokens": 24, "logprob_chunk": 5}
            | {"matmul_precision": "highest", "shard": shard, **settings}
        )
        return data_parallel(load_torch_policy(config, device="cpu", threads=1, seed=3), ranks)

    said: dict[str, Any] = {}
    policies = {"whole": policy_of("none"), "divided": policy_of("layers")}
    for name, policy in policies.items():
        if ranks.is_first:
            (folder / name).mkdir(parents=True)
        completions = sample(policy)
        said[name] = {
            "start": policy.weights_sha256(),
            "lengths": completions.lengths_N.tolist(),
            "tokens": completions.tokens_NT.tolist(),
            "failure": failed(policy, completions),
            "after_failure": policy.weights_sha256(),
            "updates": [updated(policy, completions) for _ in range(STEPS)],
            "reference": policy.score_reference(completions).tolist(),
            "numel": local_numel(policy),
            "end": policy.weights_sha256(),
        }
        policy.save(folder / name)
        said[name]["again"] = updated(policy, completions)
        said[name]["resumed_end"] = policy.weights_sha256()
    ranks.share(None)
    for name, other in (("whole", "divided"), ("divided", "whole"), ("divided", "divided")):
        fresh = policy_of("layers" if name == "divided" else "none")
        fresh.load(folder / other)
        told = {"end": fresh.weights_sha256(), "again": updated(fresh, completions)}
        said[f"{name}_from_{other}"] = {**told, "resumed_end": fresh.weights_sha256()}
    return said


def sample(policy: DataParallelPolicy) -> Completions:
    """Draw with fixed noise."""
    noise = np.random.default_rng(1).random((len(PROMPTS) * GROUP, TOKENS))
    return policy.sample(
        PROMPTS, group_size=GROUP, max_tokens=TOKENS, temperature=1.0, top_p=1.0, uniforms_NT=noise
    )


def credit(first: float = -1.0) -> KnownCredit:
    """Prefer odd rows; give the first row what is asked for."""
    rows_N = np.where(np.arange(len(PROMPTS) * GROUP) % 2 == 1, 1.0, -1.0)
    rows_N[0] = first
    return KnownCredit(advantages_NT=rows_N[:, None] * np.ones(TOKENS))


def updated(policy: DataParallelPolicy, completions: Completions) -> dict[str, float]:
    """Take a step on all rows but one."""
    trained_N = np.ones(len(completions.lengths_N), dtype=bool)
    trained_N[3] = False
    found = policy.update(
        completions, trained_N=trained_N, credit=credit(), loss=LossConfig(), lr=1e-3
    )
    scored = policy.score(completions)
    return {
        "loss": found.loss,
        "grad_norm": found.grad_norm,
        "before": float(found.scores.logprobs_NT.sum()),
        "after": float(scored.logprobs_NT.sum()),
    }


def failed(policy: DataParallelPolicy, completions: Completions) -> str:
    """Return what an advantage that is not finite leads to."""
    broken = credit(float("nan"))
    everyone_N = np.ones(len(completions.lengths_N), dtype=bool)
    try:
        policy.update(completions, trained_N=everyone_N, credit=broken, loss=LossConfig(), lr=1.0)
    except AlgorithmicFailure as error:
        return str(error)
    return "nothing"


def local_numel(policy: DataParallelPolicy) -> list[int]:
    """Count what this process holds of the layers, of them as a whole, and of the rest."""
    layers = whole = rest = 0
    for name, parameter in policy._policy.lm.model.named_parameters():
        local = getattr(parameter, "_local_tensor", parameter).numel()
        if ".layers." in name and "lora" not in name:
            layers, whole = layers + local, whole + parameter.numel()
        else:
            rest += local
    return [layers, whole, rest]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    leave(0)
