"""An exact policy in numpy: one softmax for every prompt and position, plain gradient descent.

A prompt's context is its token ids; what was sampled before a position does not matter. Knows
its own small tokenizer. Made for tests, calibration and lab overhead: every probability, entropy
and gradient is exact, and ten steps cost milliseconds. Refuses devices and models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.errors import AlgorithmicFailure, ConfigError, DataError
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
from cupel.policy.update_record import UpdateRecord

Float = NDArray[np.float64]

PIECES = (
    *("", "", "\\boxed{", "}", "-", " ", " wait let me", " check", " so the answer is", "."),
    *(str(digit) for digit in range(10)),
)
"""What the toy policy can say; ids 0 and 1 are padding and end of sequence."""


class ToyTokenizer:
    """Greedy longest match over `PIECES`; any other byte has an input-only id after them."""

    pad_id = 0
    eos_id = 1

    def __init__(self) -> None:
        pieces = [piece.encode() for piece in PIECES]
        self.piece_bytes: Sequence[bytes] = [*pieces, *(bytes([value]) for value in range(256))]
        self._longest_first = sorted(
            ((piece, index) for index, piece in enumerate(pieces) if piece),
            key=lambda item: -len(item[0]),
        )

    def encode(self, text: str) -> list[int]:
        """Encode any text, losslessly."""
        data, ids, at = text.encode(), [], 0
        while at < len(data):
            for piece, index in self._longest_first:
                if data.startswith(piece, at):
                    ids.append(index)
                    at += len(piece)
                    break
            else:
                ids.append(len(PIECES) + data[at])
                at += 1
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids to text, without special tokens."""
        return b"".join(self.piece_bytes[index] for index in ids).decode(errors="replace")


class ToyPolicy:
    """logits[context, position, vocabulary], sampled, scored and trained exactly."""

    capabilities = Capabilities(
        token_advantages=True, entropies=True, exact_resume=True, reference=True
    )

    def __init__(self, *, seed: int = 0, grad_clip: float = float("inf")) -> None:
        """Start near the uniform distribution; `seed` draws the first logits."""
        self.tokenizer: Tokenizer = ToyTokenizer()
        self._seed, self._grad_clip = seed, grad_clip
        self._sample_rows: int | None = None
        self._context_of: dict[tuple[int, ...], int] = {}
        self._logits_CTV: Float = np.zeros((0, 0, len(PIECES)))

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
        """Sample by inverse CDF over the vocabulary in id order (see the protocol)."""
        contexts_N = np.repeat(self._contexts(prompts, max_tokens), group_size)
        tokens_NT = np.empty((len(contexts_N), max_tokens), dtype=np.intp)
        q_NT, pi_NT = np.empty(tokens_NT.shape), np.empty(tokens_NT.shape)
        rows = self._sample_rows or len(contexts_N)
        for start in range(0, len(contexts_N), rows):
            part = slice(start, start + rows)
            logits_NTV = self._logits_CTV[contexts_N[part], :max_tokens]
            pi_NTV, q_NTV = softmax(logits_NTV), _tempered(logits_NTV, temperature, top_p)
            cdf_NTV = np.cumsum(q_NTV, axis=-1)
            target_NT = uniforms_NT[part, :max_tokens] * cdf_NTV[..., -1] * (1 - 1e-15)
            tokens_NT[part] = (cdf_NTV <= target_NT[..., None]).sum(axis=-1)
            q_NT[part], pi_NT[part] = (
                _picked(q_NTV, tokens_NT[part]),
                _picked(pi_NTV, tokens_NT[part]),
            )
        ended_NT = tokens_NT == self.tokenizer.eos_id
        finished_N = ended_NT.any(axis=1)
        lengths_N = np.where(finished_N, ended_NT.argmax(axis=1) + 1, max_tokens)
        mask_NT = np.arange(max_tokens) < lengths_N[:, None]
        return Completions(
            prompts=tuple(tuple(prompt) for prompt in prompts),
            group_size=group_size,
            tokens_NT=np.where(mask_NT, tokens_NT, self.tokenizer.pad_id).astype(np.int32),
            lengths_N=lengths_N.astype(np.int32),
            finished_N=finished_N,
            sampler_logprobs_NT=_masked_log(q_NT, mask_NT),
            policy_logprobs_NT=_masked_log(pi_NT, mask_NT),
        )

    def score(self, completions: Completions) -> Scores:
        """Return exact log-probabilities and entropies at T = 1."""
        logprobs_NT, entropies_NT, _ = self._distributions(completions)
        return Scores(
            logprobs_NT=logprobs_NT.astype(np.float32),
            entropies_NT=entropies_NT.astype(np.float32),
        )

    def score_reference(self, completions: Completions) -> FloatNT:
        """Return exact log-probabilities under the first logits, which the seed determines."""
        tokens_NT, mask_NT = completions.tokens_NT.astype(np.intp), completions.mask_NT
        first_PTV = np.stack(
            [self._first_logits(prompt, tokens_NT.shape[1]) for prompt in completions.prompts]
        )
        pi_NTV = np.repeat(softmax(first_PTV), completions.group_size, axis=0)
        return _masked_log(_picked(pi_NTV, tokens_NT), mask_NT)

    def update(
        self,
        completions: Completions,
        *,
        trained_N: NDArray[np.bool_],
        credit: Credit,
        loss: LossConfig,
        lr: float,
        old_logprobs_NT: FloatNT | None = None,
        reference_logprobs_NT: FloatNT | None = None,
    ) -> UpdateResult:
        """Take one step of gradient descent: logits -= lr * gradient, norm-clipped.

        Raises:
            AlgorithmicFailure: a loss or gradient is not finite; the logits are unchanged.
        """
        logprobs_NT, entropies_NT, pi_NTV = self._distributions(completions)
        scores = Scores(
            logprobs_NT=logprobs_NT.astype(np.float32),
            entropies_NT=entropies_NT.astype(np.float32),
        )
        record = UpdateRecord(
            completions, trained_N, credit, loss, old_logprobs_NT, reference_logprobs_NT
        )
        rows_B = np.flatnonzero(trained_N)
        if not len(rows_B):
            return record.result(scores, grad_norm=0.0)
        found = record.add(rows_B, logprobs_NT[rows_B], entropies_NT[rows_B])
        # d logprob[token] / d logits = onehot(token) - pi
        slope_BTV = -found.gradient_BT[..., None] * pi_NTV[rows_B]
        picked_BT1 = completions.tokens_NT[rows_B].astype(np.intp)[..., None]
        at_token = np.take_along_axis(slope_BTV, picked_BT1, -1) + found.gradient_BT[..., None]
        np.put_along_axis(slope_BTV, picked_BT1, at_token, -1)
        contexts_B = self._contexts(completions.prompts, 0)[rows_B // completions.group_size]
        used_C, where_B = np.unique(contexts_B, return_inverse=True)
        gradient_CTV = np.zeros((len(used_C), *slope_BTV.shape[1:]))
        np.add.at(gradient_CTV, where_B, slope_BTV)
        norm = float(np.sqrt((gradient_CTV**2).sum()))
        if not np.isfinite(norm):
            raise AlgorithmicFailure(f"update: the gradient norm is {norm}; logits are unchanged")
        scale = min(1.0, self._grad_clip / norm) if norm > 0 else 1.0
        self._logits_CTV[used_C, : slope_BTV.shape[1]] -= lr * scale * gradient_CTV
        return record.result(scores, grad_norm=norm)

    def set_concurrency(self, setting: str, value: int) -> None:
        """Set `sample_rows`, the only setting of the two that a table has.

        Raises:
            ConfigError: another setting.
        """
        if setting != "sample_rows":
            raise ConfigError(f"the toy policy has no {setting}; only sample_rows")
        self._sample_rows = value

    def save(self, folder: Path) -> None:
        """Write the table and its contexts."""
        np.save(folder / "logits.npy", self._logits_CTV, allow_pickle=False)
        contexts = [list(context) for context in self._context_of]
        (folder / "toy.json").write_text(json.dumps({"seed": self._seed, "contexts": contexts}))

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote.

        Raises:
            DataError: a file is missing or damaged.
        """
        try:
            record = json.loads((folder / "toy.json").read_text())
            self._logits_CTV = np.load(folder / "logits.npy", allow_pickle=False)
            self._seed = record["seed"]
            contexts = record["contexts"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{folder}: not a saved toy policy ({error})") from None
        self._context_of = {tuple(ids): index for index, ids in enumerate(contexts)}

    def weights_sha256(self) -> str:
        """Hash the table."""
        return hashlib.sha256(np.ascontiguousarray(self._logits_CTV).tobytes()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return what a record must say about this policy."""
        return {
            "backend": "toy",
            "weights_sha256": self.weights_sha256(),
            "parameters": int(self._logits_CTV.size),
            "dtype": "float64",
            "device": "cpu",
            "optimizer": "sgd",
        }

    def _contexts(self, prompts: Sequence[Sequence[int]], positions: int) -> NDArray[np.intp]:
        """Return each prompt's context, adding contexts and positions that are new."""
        indices = [
            self._context_of.setdefault(tuple(prompt), len(self._context_of)) for prompt in prompts
        ]
        contexts, length, vocabulary = self._logits_CTV.shape
        if len(self._context_of) > contexts or positions > length:
            more = max(len(self._context_of), contexts)
            grown = np.empty((more, max(positions, length), vocabulary))
            for index, context in enumerate(self._context_of):
                if index >= contexts or positions > length:
                    grown[index] = self._first_logits(context, grown.shape[1])
            grown[:contexts, :length] = self._logits_CTV
            self._logits_CTV = grown
        return np.array(indices, dtype=np.intp)

    def _first_logits(self, context: tuple[int, ...], positions: int) -> Float:
        """Draw a context's first logits: they depend on the seed and the prompt, not on order."""
        rng = np.random.default_rng([self._seed, *context])
        logits_TV = rng.normal(0.0, 0.01, (positions, len(PIECES)))
        logits_TV[:, self.tokenizer.pad_id] = -np.inf
        logits_TV[:, self.tokenizer.eos_id] += 1.0
        return logits_TV

    def _distributions(self, completions: Completions) -> tuple[Float, Float, Float]:
        limit = completions.tokens_NT.shape[1]
        contexts_P = self._contexts(completions.prompts, limit)
        logits_NTV = self._logits_CTV[np.repeat(contexts_P, completions.group_size), :limit]
        pi_NTV, mask_NT = softmax(logits_NTV), completions.mask_NT
        picked_NT = np.take_along_axis(
            pi_NTV, completions.tokens_NT.astype(np.intp)[..., None], axis=-1
        )[..., 0]
        log_pi_NTV = np.log(pi_NTV, where=pi_NTV > 0, out=np.zeros_like(pi_NTV))
        logprobs_NT = np.log(picked_NT, where=mask_NT, out=np.zeros_like(picked_NT))
        entropies_NT = np.where(mask_NT, -(pi_NTV * log_pi_NTV).sum(axis=-1), 0.0)
        return logprobs_NT, entropies_NT, pi_NTV


def softmax(logits: Float) -> Float:
    """Return the softmax over the last axis."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    normalised: Float = weights / weights.sum(axis=-1, keepdims=True)
    return normalised


def _tempered(logits_NTV: Float, temperature: float, top_p: float) -> Float:
    """Return q: the tempered softmax cut to its top-p nucleus; greedy at temperature 0."""
    if temperature == 0:
        one_hot: Float = np.eye(logits_NTV.shape[-1])[logits_NTV.argmax(axis=-1)]
        return one_hot
    q_NTV = softmax(logits_NTV / temperature)
    if top_p < 1:
        ordered = -np.sort(-q_NTV, axis=-1)
        before = np.cumsum(ordered, axis=-1) - ordered
        threshold = np.where(before < top_p, ordered, np.inf).min(axis=-1, keepdims=True)
        q_NTV = np.where(q_NTV >= threshold, q_NTV, 0.0)
        q_NTV = q_NTV / q_NTV.sum(axis=-1, keepdims=True)
    return q_NTV


def _picked(p_NTV: Float, tokens_NT: NDArray[np.intp]) -> Float:
    picked_NT: Float = np.take_along_axis(p_NTV, tokens_NT[..., None], axis=-1)[..., 0]
    return picked_NT


def _masked_log(picked_NT: Float, mask_NT: NDArray[np.bool_]) -> FloatNT:
    logs: FloatNT = np.log(picked_NT, where=mask_NT, out=np.zeros_like(picked_NT)).astype(
        np.float32
    )
    return logs
