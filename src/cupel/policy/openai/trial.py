"""What a sampling server is, found out before anything depends on it: its model, and what it tells.

Knows how to tell raw log-probabilities from those of the sampling distribution, by comparing a few
sampled tokens with the trainer's own distributions. Refuses to believe settings about that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cupel.errors import InfrastructureFailure
from cupel.policy.openai.sampling import ask_all
from cupel.policy.openai.server import Server
from cupel.policy.openai.wire import Asked, Dialect
from cupel.policy.protocol import Completions
from cupel.policy.torch_policy import TorchPolicy

Told = Literal["raw", "processed"]
"""Of which distribution a server tells log-probabilities: pi at T = 1, or q, what it drew from."""

TRIAL_TEMPERATURE = 0.5
TRIALS = 8


def check_model(server: Server, name: str) -> None:
    """Check that the server has a model of this name.

    Raises:
        InfrastructureFailure: it has not, or it is no such server.
    """
    answer = server.call("/v1/models")
    listed = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        raise InfrastructureFailure(f"{server.root}/v1/models lists no models: is that the server?")
    names = [str(entry.get("id")) for entry in listed]
    if name not in names:
        raise InfrastructureFailure(
            f"{server.root} serves no model '{name}'; it has {', '.join(names) or 'none'}. Set "
            "policy.openai.served_model to the one that is the trainer's"
        )


def find_told(
    server: Server, dialect: Dialect, adapter: str, trainer: TorchPolicy, ids: Sequence[int]
) -> Told:
    """Sample single tokens at another temperature: whose log-probabilities come back?

    Args:
        ids: of a text; its beginnings are the prompts.

    Raises:
        InfrastructureFailure: an answer cannot be used, or neither distribution fits it.
    """
    ends = np.linspace(len(ids) // 2, len(ids), TRIALS, dtype=int).tolist()
    asked = [
        Asked(
            prompt=ids[:end],
            max_tokens=1,
            temperature=TRIAL_TEMPERATURE,
            top_p=1.0,
            seed=number,
            stop_ids=trainer.stop_ids,
        )
        for number, end in enumerate(ends)
    ]
    vocabulary = int(trainer.lm.head_weight.shape[0])
    drawn = ask_all(server, dialect, adapter, asked, vocabulary=vocabulary, in_flight=TRIALS)
    told_K = np.array([one.logprobs[0] for one in drawn])
    tokens = [one.tokens[0] for one in drawn]
    logits_KV = _next_logits(trainer, [one.prompt for one in asked])
    raw = _mean_difference(logits_KV, tokens, told_K)
    processed = _mean_difference(logits_KV / TRIAL_TEMPERATURE, tokens, told_K)
    if min(raw, processed) > 2 * trainer.config.openai.probe_tolerance:
        raise InfrastructureFailure(
            f"the log-probabilities of tokens sampled at temperature {TRIAL_TEMPERATURE} are "
            f"{raw:.3g} nats off the trainer's at temperature 1 and {processed:.3g} off those at "
            "that temperature: they are of neither distribution"
        )
    return "processed" if processed <= raw else "raw"


def score_ids(trainer: TorchPolicy, ids: Sequence[int]) -> NDArray[np.float64]:
    """Return log pi (T = 1) of every id but the first, by the path that training scores by."""
    tokens_NT = np.array([ids[1:]], dtype=np.int32)
    blank_NT = np.zeros(tokens_NT.shape, dtype=np.float32)
    row = Completions(
        prompts=((ids[0],),),
        group_size=1,
        tokens_NT=tokens_NT,
        lengths_N=np.array([tokens_NT.shape[1]], dtype=np.int32),
        finished_N=np.array([False]),
        sampler_logprobs_NT=blank_NT,
        policy_logprobs_NT=blank_NT,
    )
    logprobs_K: NDArray[np.float64] = trainer.score(row).logprobs_NT[0].astype(np.float64)
    return logprobs_K


def _next_logits(trainer: TorchPolicy, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the trainer's logits of the token behind each prompt."""
    lm = trainer.lm
    with lm.arithmetic(), torch.inference_mode():
        return lm.logits(lm.prefill(list(prompts)).last_PD).cpu()


def _mean_difference(
    logits_KV: torch.Tensor, tokens: Sequence[int], told_K: NDArray[np.float64]
) -> float:
    logs_KV = torch.log_softmax(logits_KV, dim=-1).numpy().astype(np.float64)
    return float(np.abs(logs_KV[np.arange(len(tokens)), tokens] - told_K).mean())
