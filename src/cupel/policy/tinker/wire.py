"""What goes to a Tinker server and what comes back, as plain arrays.

Pure. Knows that position i of a row predicts token i + 1, how a prompt is masked, and by what a
server's way of adding up losses is undone. Refuses answers that cannot be used. Knows no SDK.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cupel.errors import InfrastructureFailure
from cupel.policy.protocol import Completions, LossConfig
from cupel.policy.tinker.config import Reduction

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Ids = NDArray[np.int64]

SEEDS = 2**31 - 2**16
"""Seeds of groups lie below this: a server adds each sample's number to its group's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One prompt with its completion, as a server trains on it: K positions.

    Attributes:
        input_K, target_K: tokens[:-1] and tokens[1:]; the model reads input[i] and all before it
            and predicts target[i].
        start: position that predicts the completion's first token: the prompt's length - 1.
    """

    input_K: Ids
    target_K: Ids
    start: int

    @property
    def weights_K(self) -> Float32:
        """1 on the positions that predict the completion, 0 on the prompt's own."""
        weights_K = np.ones(len(self.target_K), dtype=np.float32)
        weights_K[: self.start] = 0.0
        return weights_K

    def laid_out(self, values_T: Float) -> Float32:
        """Return a completion's values at the positions that predict its tokens, 0 before."""
        values_K = np.zeros(len(self.target_K), dtype=np.float32)
        values_K[self.start :] = values_T
        return values_K


def shifted_row(prompt: Sequence[int], completion: Sequence[int]) -> Row:
    """Return the training row of a completion: inputs without the last token, targets one on.

    >>> row = shifted_row([5, 6, 7], [8, 9])
    >>> row.input_K.tolist(), row.target_K.tolist(), row.weights_K.tolist()
    ([5, 6, 7, 8], [6, 7, 8, 9], [0.0, 0.0, 1.0, 1.0])
    """
    assert len(prompt) > 0, "the first token of a completion needs something to be predicted from"
    assert len(completion) > 0, "a completion has at least one token"
    tokens = np.array([*prompt, *completion], dtype=np.int64)
    return Row(input_K=tokens[:-1], target_K=tokens[1:], start=len(prompt) - 1)


def rows_of(completions: Completions, rows_B: NDArray[np.intp]) -> list[Row]:
    """Return the training rows of some completions."""
    return [
        shifted_row(
            completions.prompts[n // completions.group_size],
            completions.tokens_NT[n, : completions.lengths_N[n]].tolist(),
        )
        for n in rows_B.tolist()
    ]


def completion_part(row: Row, values_K: NDArray[np.floating], *, what: str) -> Float:
    """Return the values at the positions that predict the completion.

    Raises:
        InfrastructureFailure: another number of values than positions, or one that is not finite.
    """
    if values_K.shape != row.target_K.shape:
        raise InfrastructureFailure(
            f"the Tinker server returned {what} of shape {list(values_K.shape)} for a row of "
            f"{len(row.target_K)} positions"
        )
    part_T = values_K[row.start :].astype(np.float64)
    if not np.isfinite(part_T).all():
        raise InfrastructureFailure(f"the Tinker server returned {what} that are not finite")
    return part_T


def sent_advantages(
    advantages_BT: Float, weights_BT: Float, *, reduction: Reduction
) -> tuple[Float, bool]:
    """Return what to send as advantages so that the server's gradient is that of our own loss.

    With A the advantages and w the weights of our normaliser, our loss is sum(w * f(A)), and f is
    proportional to A. A `sum` server computes sum(f(A')), so A' = w A. A `seq_mean` server computes
    the mean over its B rows of sum(m f(A')) / sum(m), m the weights sent with the row; with m = 1
    on the completion's T_b tokens, A' = w A T_b B.

    Returns:
        The advantages, and whether the row's weights must be sent along to mask its prompt; where
        everything is summed, an advantage of 0 does that.
    """
    scaled_BT = advantages_BT * weights_BT
    if reduction == "sum":
        return scaled_BT, False
    lengths_B1 = (weights_BT > 0).sum(axis=1, keepdims=True)
    return scaled_BT * lengths_B1 * len(scaled_BT), True


def loss_settings(loss: LossConfig) -> dict[str, float] | None:
    """Return `loss_fn_config` for a kind of loss; None where it has no thresholds.

    Thresholds are of the ratio itself. CISPO here has no lower bound.
    """
    high = loss.clip_eps if loss.clip_eps_high is None else loss.clip_eps_high
    match loss.kind:
        case "ppo":
            return {"clip_low_threshold": 1 - loss.clip_eps, "clip_high_threshold": 1 + high}
        case "cispo":
            return {"clip_low_threshold": 0.0, "clip_high_threshold": 1 + high}
        case _:
            return None


def seed_of(uniform: float) -> int:
    """Return a group's seed, from the first uniform of its first row.

    That row's counters are behind the number, so the seed depends neither on the batch nor on how
    often a request was repeated.

    >>> seed_of(0.0), seed_of(0.5)
    (0, 1073709056)
    """
    return int(uniform * SEEDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One sampled completion: its tokens, and the server's log-probabilities of them."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finished: bool


def checked_group(
    drawn: Sequence[Drawn], *, group_size: int, max_tokens: int, vocabulary: int
) -> list[Drawn]:
    """Refuse a group with a hole, and completions that are not what was asked for.

    Raises:
        InfrastructureFailure: says which completion, and what is wrong.
    """
    if len(drawn) != group_size:
        raise InfrastructureFailure(f"{len(drawn)} completions came back, {group_size} were asked")
    for number, one in enumerate(drawn):
        wrong = _wrong(one, max_tokens, vocabulary)
        if wrong:
            raise InfrastructureFailure(f"completion {number + 1} of {group_size} {wrong}")
    return list(drawn)


def _wrong(one: Drawn, max_tokens: int, vocabulary: int) -> str | None:
    if not 1 <= len(one.tokens) <= max_tokens:
        return f"has {len(one.tokens)} tokens; between 1 and {max_tokens} were asked"
    if len(one.logprobs) != len(one.tokens):
        return f"has {len(one.logprobs)} log-probabilities for {len(one.tokens)} tokens"
    if not all(math.isfinite(value) and value <= 1e-3 for value in one.logprobs):
        return "has log-probabilities that are none"
    if not all(0 <= token < vocabulary for token in one.tokens):
        return f"has a token outside the vocabulary of {vocabulary}"
    return None


def inputs_of(
    row: Row, old_T: NDArray[np.floating], sent_T: Float, *, weights: bool
) -> dict[str, Float32]:
    """Return a row's inputs of the loss from its completion's padded values."""
    length = len(row.target_K) - row.start
    inputs = {
        "logprobs": row.laid_out(old_T[:length].astype(np.float64)),
        "advantages": row.laid_out(sent_T[:length]),
    }
    return inputs | {"weights": row.weights_K} if weights else inputs


def parts_of(rows: Sequence[Row], returned: Sequence[NDArray[np.floating]]) -> list[Float]:
    """Return the completions' log-probabilities out of what came back for their rows; raises as
    `completion_part`."""
    return [
        completion_part(row, values_K, what="log-probabilities")
        for row, values_K in zip(rows, returned, strict=True)
    ]


def padded(parts: Sequence[Float], width: int) -> Float32:
    """Return values of different lengths as one array, 0 on padding."""
    values_BT = np.zeros((len(parts), width), dtype=np.float32)
    for n, part_T in enumerate(parts):
        values_BT[n, : len(part_T)] = part_T
    return values_BT
