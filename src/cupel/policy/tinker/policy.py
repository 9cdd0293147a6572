"""A policy whose adapters, optimizer and sampler are a Tinker server's, hosted or self-hosted.

Knows when the sampler's weights are out of date, which log-probabilities are whose, and that the
server's gradient is that of our own loss. Refuses to know the SDK, true entropies, and to go on
after a training request failed: nobody knows then what the server did.

The server's own generator draws, with a seed made of the run's counters. Our inverse CDF has no
part in it: the same seed repeats a completion only where the server's arithmetic repeats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.errors import AlgorithmicFailure
from cupel.policy.config import PolicyConfig
from cupel.policy.gate import (
    REMOTE_TOLERANCE,
    TOKEN_TOLERANCE,
    check_ratio_gate,
    check_update_ratio,
)
from cupel.policy.losses import sampler_weights, token_weights
from cupel.policy.protocol import (
    Capabilities,
    Completions,
    Credit,
    FloatNT,
    LossConfig,
    Scores,
    Tokenizer,
    UpdateResult,
)
from cupel.policy.tinker.checkpoint import Saved, read_saved
from cupel.policy.tinker.client import Sampler, TrainingClient
from cupel.policy.tinker.probe import Found, probe
from cupel.policy.tinker.sampling import Wanted, first_groups, sample_groups
from cupel.policy.tinker.service import Spent, TinkerService
from cupel.policy.tinker.slots import Slots, slots_folder
from cupel.policy.tinker.tokenizer import load_tokenizer
from cupel.policy.tinker.wire import (
    Row,
    inputs_of,
    loss_settings,
    padded,
    parts_of,
    rows_of,
    sent_advantages,
)
from cupel.policy.tokens import PieceTokenizer
from cupel.policy.update_record import UpdateRecord

PROBE_TEXT = "the sum of 1 and 2 is 3 , and that is right"
VERIFIED_ROWS = 8
"""Rows on which the sampler is checked against the trainer before anything depends on it."""

UNSURE, LEAST_UNSURE = -0.5, 8
"""Tokens of at most this log-probability, and as many of them, tell what a server tells."""

Float = NDArray[np.float64]


class TinkerPolicy:
    """Samples, scores and trains adapters on a Tinker server."""

    capabilities = Capabilities(token_advantages=True, entropies=False, exact_resume=False)

    def __init__(self, config: PolicyConfig, *, seed: int) -> None:
        """Reach the server and find out what it does; the run's adapters come at the first need.

        Args:
            seed: draws the adapters.

        Raises:
            ConfigError: no key, no such server or model, or a setting that it ignores.
            DataError: the tokenizer cannot be loaded.
            GateFailure: the server's training cannot be relied on.
        """
        self.config, self._seed = config, seed
        self._spent = Spent()
        self._service = TinkerService(config, spent=self._spent)
        self._slots = Slots(slots_folder(self._service.where), config.tinker.max_in_flight)
        self._pieces, self.found = self._look()
        self.tokenizer: Tokenizer = self._pieces
        self._client: TrainingClient | None = None
        self._sampler: Sampler | None = None
        self._scored: tuple[Completions, Scores] | None = None
        self._verified = self._stepped = False
        self._tells_q: bool | None = None
        self._path: str | None = None
        self._saves = 0

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
        """Sample a group a prompt on the server, from the weights as they are.

        A group's seed comes from the first uniform of its first row; the other uniforms are not
        used. A completion that fails for good fails the run: no group has a hole.

        Raises:
            InfrastructureFailure: a completion failed; says which and why.
            GateFailure: the sampler's probabilities are not the trainer's.
        """
        if self._sampler is None:
            self._sampler = self._training.sampler()
        wanted = Wanted(
            group_size=group_size, max_tokens=max_tokens, temperature=temperature, top_p=top_p
        )
        told = sample_groups(
            self._sampler, self._slots, self.tokenizer, prompts, wanted, uniforms_NT
        )
        if temperature == 0:
            return replace(told, sampler_logprobs_NT=np.zeros_like(told.policy_logprobs_NT))
        if temperature == 1 and top_p == 1:
            self._verify(told)
            return told
        if self._tells_q is None and self._find_told(told):
            # only at temperature 1 are both the same, and sampler and trainer comparable
            self.sample(
                prompts[:1],
                group_size=group_size,
                max_tokens=max_tokens,
                temperature=1.0,
                top_p=1.0,
                uniforms_NT=uniforms_NT[:group_size],
            )
        return self._with_both(told)

    def score(self, completions: Completions) -> Scores:
        """Score every row at T = 1 by a forward pass of the trainer; entropies are not known.

        The last scores are kept while the weights stay, so scoring a batch twice asks once.
        """
        if self._scored is not None and self._scored[0] is completions:
            return self._scored[1]
        rows = rows_of(completions, np.arange(len(completions.lengths_N)))
        parts = parts_of(rows, self._training.forward(rows))
        logprobs_NT = padded(parts, completions.tokens_NT.shape[1])
        scores = Scores(logprobs_NT=logprobs_NT, entropies_NT=None)
        self._scored = (completions, scores)
        return scores

    def update(
        self,
        completions: Completions,
        *,
        trained_N: NDArray[np.bool_],
        credit: Credit,
        loss: LossConfig,
        lr: float,
        old_logprobs_NT: FloatNT | None = None,
    ) -> UpdateResult:
        """Take one AdamW step on the server; the loss is computed here, by what it returns.

        Gradient and step are handed in together, but at the first update the step waits until the
        gradient's own forward pass has agreed with the scores.

        Raises:
            AlgorithmicFailure: an advantage or the loss is not finite.
            GateFailure: pi_new / pi_old of the first update is not 1.
            InfrastructureFailure: a request failed; the run continues from its last checkpoint.
        """
        scores = self.score(completions)
        old_NT = scores.logprobs_NT if old_logprobs_NT is None else old_logprobs_NT
        advantages_NT = np.zeros(completions.tokens_NT.shape)

        def fixed(rows_B: NDArray[np.intp], logs_BT: Float, entropies_BT: Float | None) -> Float:
            shaped: Float = advantages_NT[rows_B, : logs_BT.shape[1]]
            return shaped

        record = UpdateRecord(completions, trained_N, fixed, loss, old_NT)
        rows_B = np.flatnonzero(trained_N)
        if not len(rows_B):
            return record.result(scores, grad_norm=0.0)
        advantages_NT[rows_B] = credit(rows_B, scores.logprobs_NT[rows_B].astype(np.float64), None)
        if not np.isfinite(advantages_NT).all():
            raise AlgorithmicFailure("update: an advantage is not finite; nothing was sent")
        weights_NT = token_weights(completions.mask_NT, trained_N, normaliser=loss.normaliser)
        sent_BT, masked = sent_advantages(
            advantages_NT[rows_B] * _correction(completions, old_NT, loss)[rows_B],
            weights_NT[rows_B],
            reduction=self.found.reduction,
        )
        rows = rows_of(completions, rows_B)
        inputs = [
            inputs_of(row, old_NT[n], sent_T, weights=masked)
            for row, n, sent_T in zip(rows, rows_B, sent_BT, strict=True)
        ]
        new_BT, norm = self._step(rows, inputs, scores.logprobs_NT[rows_B], loss, lr)
        record.add(rows_B, new_BT.astype(np.float64), None)
        return record.result(scores, grad_norm=norm)

    def save(self, folder: Path) -> None:
        """Save adapters and optimizer on the server; the folder says where they lie there."""
        self._saves += 1
        self._path = self._training.save(f"save-{self._saves}")
        Saved(
            path=self._path,
            server=self._service.where,
            model=str(self.config.model),
            rank=self.config.lora.rank,
            sdk=self._service.sdk_version,
            spent=self._spent.as_dict(),
        ).write(folder)

    def load(self, folder: Path) -> None:
        """Restore adapters and optimizer from where the server keeps them.

        Raises:
            DataError: no such folder, or one of another server, model or rank.
            InfrastructureFailure: the server no longer has them.
        """
        saved = read_saved(
            folder,
            server=self._service.where,
            model=str(self.config.model),
            rank=self.config.lora.rank,
        )
        if self._client is None:
            self._service.count(**saved.spent)  # a run that goes on counts on
        else:
            self._client.close()
        self._client = TrainingClient(self._service, self._service.restored(saved.path))
        self._path = saved.path
        self._forget()
        self._stepped = False

    def close(self) -> None:
        """Give the adapters' place on the server back; the end of the policy does the same."""
        if self._client is not None:
            self._client.close()

    def weights_sha256(self) -> None:
        """Return None: the weights are the server's, and only their path there is known."""

    def account(self) -> Mapping[str, int | str | None]:
        """Return what was asked of the server, and where the last saved weights lie.

        A resumed run goes on counting from its checkpoint; what a killed one asked for after it is
        not known.
        """
        spent = {f"spent_{name}": count for name, count in self._spent.as_dict().items()}
        return {**spent, "server_checkpoint": self._path}

    def describe(self) -> dict[str, Any]:
        """Return what a record must say about model and server."""
        return {
            "backend": "tinker",
            "model": self.config.model,
            "base_url": self.config.tinker.base_url,
            "sdk": self._service.sdk_version,
            "weights_sha256": None,
            "lora": {"rank": self.config.lora.rank, "alpha": None, "targets": "the server's"},
            "server_reduction": self.found.reduction,
            "grad_clip_honoured": self.found.clips,
            "max_in_flight": self.config.tinker.max_in_flight,
            "optimizer": "adamw",
            "repeats": "where the server's generator and arithmetic do",
        }

    @property
    def _training(self) -> TrainingClient:
        """The run's own adapters, made at the first need: a resumed run restores others."""
        if self._client is None:
            self._client = TrainingClient(self._service, self._service.new(seed=self._seed))
        return self._client

    def _look(self) -> tuple[PieceTokenizer, Found]:
        """Load the tokenizer and try the server, on adapters in a session of their own."""
        service = TinkerService(self.config, spent=self._spent)
        client = TrainingClient(service, service.new(seed=self._seed))
        try:
            pieces = load_tokenizer(self.config, client)
            return pieces, probe(client, pieces.encode(PROBE_TEXT), self.config)
        finally:
            client.close()

    def _forget(self) -> None:
        """The weights are others now."""
        self._sampler = self._scored = None

    def _find_told(self, told: Completions) -> bool:
        """Find out whether the server tells what it drew from, instead of log pi at T = 1.

        Sure tokens have about the same probability at every temperature; only the others tell. A
        batch with too few of them leaves the question to the next one.
        """
        scored_NT = self.score(told).logprobs_NT
        unsure_NT = told.mask_NT & (scored_NT < UNSURE)
        if unsure_NT.sum() < LEAST_UNSURE:
            return False
        gap = np.abs(scored_NT - told.policy_logprobs_NT)[unsure_NT]
        self._tells_q = float(gap.mean()) > TOKEN_TOLERANCE
        self._verified = self._verified or not self._tells_q
        return self._tells_q

    def _with_both(self, told: Completions) -> Completions:
        """Put log q and log pi beside each other, for a q that is not pi.

        Where the server tells pi, q is not known. Where it tells q, pi is the trainer's own, and
        the ratio gate compares the trainer with itself.
        """
        kept = None if self._scored is None or self._scored[0] is not told else self._scored[1]
        if not self._tells_q:
            found = replace(told, sampler_logprobs_NT=None)
        else:
            kept = kept or self.score(told)
            found = replace(told, policy_logprobs_NT=kept.logprobs_NT)
        self._scored = None if kept is None else (found, kept)
        return found

    def _verify(self, told: Completions) -> None:
        """Hold the sampler to the trainer's log-probabilities, once: rows and masks are right.

        Raises:
            GateFailure: they differ.
        """
        if self._verified:
            return
        few = first_groups(told, VERIFIED_ROWS)
        check_ratio_gate(few, self.score(few), tolerance=REMOTE_TOLERANCE)
        self._verified = True

    def _step(
        self,
        rows: Sequence[Row],
        inputs: Sequence[Mapping[str, NDArray[np.float32]]],
        scored_BT: FloatNT,
        loss: LossConfig,
        lr: float,
    ) -> tuple[FloatNT, float | None]:
        """Return log pi_new of the gradient's own pass, and the gradient's norm."""
        client, config = self._training, self.config
        gradient = client.forward_backward(
            rows, inputs, loss=loss.kind, loss_settings=loss_settings(loss)
        )
        adam = {
            "learning_rate": lr,
            "beta1": config.betas[0],
            "beta2": config.betas[1],
            "eps": config.eps,
            "weight_decay": config.weight_decay,
            "grad_clip_norm": config.grad_clip,
        }
        if self._stepped:
            step = client.optim_step(**adam)
            parts = parts_of(rows, gradient())
        else:
            parts = parts_of(rows, gradient())
            before = [row_T[: len(part)] for row_T, part in zip(scored_BT, parts, strict=True)]
            check_update_ratio(
                np.concatenate(parts), np.concatenate(before), tolerance=REMOTE_TOLERANCE
            )
            step = client.optim_step(**adam)
        stepped = step()
        self._stepped = True
        self._forget()
        return padded(parts, scored_BT.shape[1]), stepped.grad_norm


def load_tinker_policy(config: PolicyConfig, *, seed: int) -> TinkerPolicy:
    """Reach the server that `config` names; raises as `TinkerPolicy`."""
    return TinkerPolicy(config, seed=seed)


def _correction(completions: Completions, old_NT: FloatNT, loss: LossConfig) -> Float:
    """Return the truncated weights pi_old / q of every token; 1 without the correction."""
    if loss.sampler_correction == "none":
        return np.ones(completions.tokens_NT.shape)
    assert completions.sampler_logprobs_NT is not None  # refused by the record
    return sampler_weights(
        old_NT.astype(np.float64),
        completions.sampler_logprobs_NT.astype(np.float64),
        completions.mask_NT,
        cap=loss.sampler_cap,
    )
