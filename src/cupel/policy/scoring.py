"""The one scoring path of a causal language model: `score`, `update` and the reference take it.

Knows microbatches: prompts once each, completions behind them, the head on completion positions
only and a chunk of logits at a time. Refuses to know losses and optimizers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupel.policy.causal_lm import CausalLM, PromptPass
from cupel.policy.config import Attention, PolicyConfig, Precision
from cupel.policy.layout import REPLICATED, Layout
from cupel.policy.logprobs import chunk_tokens, logprobs_and_entropies
from cupel.policy.microbatch import Microbatch, plan_microbatches
from cupel.policy.protocol import Completions, Scores


class Scorer:
    """Scores completions under the model's current weights."""

    def __init__(self, lm: CausalLM, *, token_budget: int, chunk: int) -> None:
        """Take a wrapped model; `chunk` 0 holds as many logits at once as fill 64 MiB."""
        self.lm = lm
        self.token_budget = token_budget
        self.layout: Layout = REPLICATED
        self._cut: tuple[PromptPass, PromptPass] | None = None
        self._chunk = chunk_tokens(lm.head_weight.shape[0], chunk)

    def plan(self, completions: Completions, chosen_N: NDArray[np.bool_]) -> list[Microbatch]:
        """Split the chosen rows into passes."""
        batches = plan_microbatches(completions, chosen_N, token_budget=self.token_budget)
        if not self.layout.together:
            return batches
        width = min(2, completions.tokens_NT.shape[1])
        # one token is scored by its prompt's pass alone: others would wait in the second one
        return [replace(batch, length=max(batch.length, width)) for batch in batches]

    def passes(
        self, completions: Completions, chosen_N: NDArray[np.bool_]
    ) -> Iterator[tuple[Microbatch, bool]]:
        """Yield each pass and whether it counts.

        Where all processes make each pass together, one that has fewer of its own adds idle ones.
        """
        batches = self.plan(completions, chosen_N)
        idle = self.layout.passes(len(batches)) - len(batches)  # agreed before the first pass
        yield from ((batch, True) for batch in batches)
        if idle:
            one_N = np.arange(len(chosen_N)) == int(completions.lengths_N.argmin())
            yield from ((batch, False) for batch in self.plan(completions, one_N) * idle)

    def score(self, completions: Completions) -> Scores:
        """Score every row at T = 1, without gradient."""
        scores = blank_scores(completions)
        self.score_into(scores, completions, np.ones(len(completions.lengths_N), dtype=np.bool_))
        return scores

    def score_into(
        self, scores: Scores, completions: Completions, chosen_N: NDArray[np.bool_]
    ) -> None:
        """Write the chosen rows' scores, without gradient."""
        with self.lm.arithmetic(), torch.no_grad():
            for batch, counts in self.passes(completions, chosen_N):
                self.forward(batch, completions, scores if counts else blank_scores(completions))
        self.layout.settle()

    def forward(
        self,
        batch: Microbatch,
        completions: Completions,
        scores: Scores,
        slope_BT: NDArray[np.float64] | None = None,
    ) -> Tensor:
        """Return log-probabilities [B, length], 0 on padding; write them and the entropies.

        Args:
            slope_BT: what `backward` will be given, where it is known already.
        """
        tokens_BT = completions.tokens_NT[batch.rows_B, : batch.length]
        mask_BT = completions.mask_NT[batch.rows_B, : batch.length]
        prompt, self._cut = self.lm.prefill(batch.prompts), None
        if self.layout.together and torch.is_grad_enabled():
            self._cut = (prompt, prompt.cut())
            prompt = self._cut[1]
        hidden = self.lm.extend(prompt, tokens_BT[:, :-1], batch.row_prompt_B)
        hidden_MD = hidden.flatten(0, 1)
        flat = torch.from_numpy(np.flatnonzero(mask_BT)).to(self.lm.device)
        if len(flat) < len(hidden_MD):
            hidden_MD = hidden_MD[flat]
        targets_M = torch.from_numpy(tokens_BT[mask_BT].astype(np.int64)).to(self.lm.device)
        slope_M = None if slope_BT is None else torch.from_numpy(slope_BT[mask_BT])
        logprobs_M, entropies_M = logprobs_and_entropies(
            hidden_MD,
            self.lm.head_weight,
            self.lm.head_bias,
            targets_M,
            chunk=self._chunk,
            slope_M=None if slope_M is None else slope_M.to(self.lm.device),
        )
        blank = logprobs_M.new_zeros(mask_BT.size)
        logprobs_BT = blank.index_put((flat,), logprobs_M).view(mask_BT.shape)
        entropies_BT = blank.index_put((flat,), entropies_M).view(mask_BT.shape)
        assert scores.entropies_NT is not None
        scores.logprobs_NT[batch.rows_B, : batch.length] = logprobs_BT.detach().cpu().numpy()
        scores.entropies_NT[batch.rows_B, : batch.length] = entropies_BT.detach().cpu().numpy()
        return logprobs_BT

    def backward(self, logprobs_BT: Tensor, slope_BT: NDArray[np.float64]) -> None:
        """Add the gradient of the latest pass, given the loss's slope by its log-probabilities.

        Over divided layers it goes back through completions first and then through prompts: in
        one go, every layer's whole gradient would wait for the prompts' share of it.
        """
        slope = torch.from_numpy(np.ascontiguousarray(slope_BT)).to(logprobs_BT)
        logprobs_BT.backward(slope)  # type: ignore[no-untyped-call]
        if self._cut is None:
            return
        (prompt, leaves), self._cut = self._cut, None
        pairs = zip(prompt.computed, leaves.computed, strict=True)
        reached = [(made, leaf.grad) for made, leaf in pairs if leaf.grad is not None]
        torch.autograd.backward([made for made, _ in reached], [slope for _, slope in reached])


def scorer_of(model: Any, config: PolicyConfig, *, trained: bool) -> Scorer:
    """Wrap a loaded model as the config says.

    Args:
        trained: whether the settings of the update apply, too.

    Raises:
        ConfigError: the model is of a kind that is not scored correctly.
    """
    device = next(model.parameters()).device.type
    lm = CausalLM(
        model,
        attention=resolve_attention(config, device),
        precision=resolve_precision(config, device),
        recompute=trained and config.activation_checkpointing,
        compiled=trained and config.compile,
    )
    return Scorer(lm, token_budget=config.microbatch_tokens, chunk=config.logprob_chunk)


def resolve_attention(config: PolicyConfig, device_type: str) -> Attention:
    """Return the attention of the scored forward: on CPUs eager beats sdpa at short lengths."""
    if config.attention != "auto":
        return config.attention
    return "eager" if device_type == "cpu" else "sdpa"


def resolve_precision(config: PolicyConfig, device_type: str) -> Precision:
    """Return the matmul precision: 'medium' only where it keeps float32 arithmetic."""
    if config.matmul_precision != "auto":
        return config.matmul_precision
    x86 = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    plain = x86 and not torch.cpu._is_amx_tile_supported()
    return "medium" if device_type == "cpu" and plain else "highest"


def blank_scores(completions: Completions) -> Scores:
    """Return scores of the completions' shape, all 0."""
    shape = completions.tokens_NT.shape
    return Scores(
        logprobs_NT=np.zeros(shape, dtype=np.float32),
        entropies_NT=np.zeros(shape, dtype=np.float32),
    )
