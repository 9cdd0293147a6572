"""One policy held by several processes: each samples, scores and differentiates its own groups.

Knows which groups are whose, and how completions, scores and gradients come together: every
process then holds the same batch and takes the same step. Refuses to know models; the policy
inside does the work, and a run's results are those of one process up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.errors import AlgorithmicFailure, ConfigError
from cupel.policy.protocol import (
    Capabilities,
    Completions,
    Credit,
    FloatNT,
    LossConfig,
    Policy,
    Scores,
    Tokenizer,
    UpdateResult,
)
from cupel.policy.ranks import Peers
from cupel.policy.scoring import blank_scores
from cupel.policy.torch_policy import TorchPolicy
from cupel.policy.update_record import Sums, UpdateRecord

Bool = NDArray[np.bool_]


class DataParallelPolicy:
    """A torch policy whose batch is dealt out over processes; all of them call every method."""

    def __init__(self, policy: TorchPolicy, peers: Peers) -> None:
        """Hold `policy`, the same in every process; divide its layers where its config says so.

        Raises:
            ConfigError: the layers cannot be divided.
        """
        if policy.config.shard == "layers":
            from cupel.policy.shards import LayerShards

            policy.lay_out(lambda lm: LayerShards(lm, peers))
        self._policy = policy
        self._peers = peers
        self.capabilities: Capabilities = policy.capabilities
        self.tokenizer: Tokenizer = policy.tokenizer

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        group_size: int,
        max_tokens: int,
        temperature: float,
        top_p: float,
        uniforms_NT: NDArray[np.float64],
    ) -> Completions:
        """Sample the own prompts; return everybody's, in order.

        Raises:
            AlgorithmicFailure: a model's distribution is not finite.
        """
        bounds = np.linspace(0, len(prompts), self._peers.count + 1).round().astype(int)
        first, last = bounds[self._peers.index : self._peers.index + 2].tolist()

        def draw() -> Completions | None:
            if first == last:
                return None
            return self._policy.sample(
                prompts[first:last],
                group_size=group_size,
                max_tokens=max_tokens,
                temperature=temperature,
                top_p=top_p,
                uniforms_NT=uniforms_NT[first * group_size : last * group_size],
            )

        with self._policy.gathered():
            parts = self._everybody(draw)
        return _joined([part for part in parts if part is not None])

    def score(self, completions: Completions) -> Scores:
        """Score every row at T = 1 under the current weights."""
        scores, own_N = blank_scores(completions), self._own(completions)
        self._policy.score_rows(scores, completions, own_N)
        return self._complete(scores)

    def score_reference(self, completions: Completions) -> FloatNT:
        """Return log pi of every sampled token under the weights this run started from."""
        scores, own_N = blank_scores(completions), self._own(completions)
        self._policy.score_reference_rows(scores, completions, own_N)
        return self._complete(scores).logprobs_NT

    def update(
        self,
        completions: Completions,
        *,
        trained_N: Bool,
        credit: Credit,
        loss: LossConfig,
        lr: float,
        old_logprobs_NT: FloatNT | None = None,
        reference_logprobs_NT: FloatNT | None = None,
    ) -> UpdateResult:
        """Take the one step that all processes take, on gradients summed over them.

        Raises:
            AlgorithmicFailure: a loss or gradient is not finite, in any process; parameters are
                unchanged.
        """
        policy, own_N = self._policy, self._own(completions)
        scores = blank_scores(completions)
        record = UpdateRecord(
            completions, trained_N, credit, loss, old_logprobs_NT, reference_logprobs_NT
        )
        policy.score_rows(scores, completions, own_N & ~trained_N)
        if not trained_N.any():
            return record.result(self._complete(scores), grad_norm=0.0)
        with policy.gradient():

            def differentiate() -> Sums:
                policy.accumulate(completions, own_N & trained_N, scores, record)
                return record.sums

            record.sums = sum(self._everybody(differentiate), Sums())
            norm = policy.step(lr, self._peers.sum)
        return record.result(self._complete(scores), grad_norm=norm)

    def save(self, folder: Path) -> None:
        """Write what is trained, and the optimizer's state: all call, the first process writes."""
        if self._peers.index == 0:
            self._policy.save(folder)
        else:
            self._policy.attend_save()

    def load(self, folder: Path) -> None:
        """Restore what is trained and the optimizer's state exactly, in every process."""
        self._policy.load(folder)

    def weights_sha256(self) -> str:
        """Hash all weights."""
        return self._policy.weights_sha256()

    def describe(self) -> dict[str, Any]:
        """Return what a record must say, and over how many processes."""
        shard = self._policy.config.shard
        return {**self._policy.describe(), "processes": self._peers.count, "shard": shard}

    def _own(self, completions: Completions) -> Bool:
        """Deal groups out by falling length, so that everybody has as much to do."""
        groups = len(completions.prompts)
        longest_P = completions.lengths_N.reshape(groups, -1).max(axis=1)
        order = np.argsort(-longest_P, kind="stable")
        own_P = np.zeros(groups, dtype=np.bool_)
        own_P[order[self._peers.index :: self._peers.count]] = True
        own_N: Bool = np.repeat(own_P, completions.group_size)
        return own_N

    def _everybody(self, work: Any) -> list[Any]:
        """Return everybody's result; a failure in one process is one in all of them."""
        told: tuple[Any, str | None]
        try:
            told = (work(), None)
        except AlgorithmicFailure as error:
            told = (None, str(error))
        answers = self._peers.all_gather(told)
        for number, (_, failure) in enumerate(answers):
            if failure is not None:
                raise AlgorithmicFailure(f"{failure} (process {number})")
        return [found for found, _ in answers]

    def _complete(self, scores: Scores) -> Scores:
        """Add up everybody's scores: each row is 0 but with its owner."""
        assert scores.entropies_NT is not None
        parts = self._peers.all_gather((scores.logprobs_NT, scores.entropies_NT))
        logprobs_NT = np.zeros_like(scores.logprobs_NT)
        entropies_NT = np.zeros_like(scores.entropies_NT)
        for own_logprobs_NT, own_entropies_NT in parts:
            logprobs_NT += own_logprobs_NT
            entropies_NT += own_entropies_NT
        return Scores(logprobs_NT=logprobs_NT, entropies_NT=entropies_NT)


def data_parallel(policy: Policy, peers: Peers) -> DataParallelPolicy:
    """Deal a policy out over processes that each hold it.

    Raises:
        ConfigError: the policy does not live in torch.
    """
    if not isinstance(policy, TorchPolicy):
        raise ConfigError(
            f"{peers.count} processes cannot share a {type(policy).__name__}; use one process, or "
            "backend 'torch' or 'tiny'"
        )
    return DataParallelPolicy(policy, peers)


def _joined(parts: Sequence[Completions]) -> Completions:
    """Put the prompts of several samples one behind the other."""
    return Completions(
        prompts=tuple(prompt for part in parts for prompt in part.prompts),
        group_size=parts[0].group_size,
        tokens_NT=np.concatenate([part.tokens_NT for part in parts]),
        lengths_N=np.concatenate([part.lengths_N for part in parts]),
        finished_N=np.concatenate([part.finished_N for part in parts]),
        sampler_logprobs_NT=_told(parts),
        policy_logprobs_NT=np.concatenate([part.policy_logprobs_NT for part in parts]),
    )


def _told(parts: Sequence[Completions]) -> FloatNT | None:
    """Join what the sampler told; None where one part does not have it."""
    told = [part.sampler_logprobs_NT for part in parts]
    kept = [one for one in told if one is not None]
    return np.concatenate(kept) if len(kept) == len(told) else None
