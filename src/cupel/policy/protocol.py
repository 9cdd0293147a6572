"""What a policy is: it samples completions, scores them, and takes one gradient step.

Everything that crosses this waist is a numpy array over the padded batch: N rows (problem-major,
`group_size` rows a problem), T completion tokens. No run folder, reward or advantage rule is
known here. Three distributions are kept apart: q, what was sampled; pi_old, the policy at T = 1
before the update; pi_new, the same code path during the update.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cupel.config import Config

FloatNT = NDArray[np.float32]
IntNT = NDArray[np.int32]


class Tokenizer(Protocol):
    """Text to ids and back, and the bytes that each id stands for."""

    eos_id: int
    pad_id: int
    piece_bytes: Sequence[bytes]
    """UTF-8 bytes each id contributes to decoded text; special tokens contribute none."""

    def encode(self, text: str) -> list[int]:
        """Encode a prompt, with the beginning-of-sequence token where the model wants one."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Decode a completion to text, without special tokens."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Completions:
    """N = P x group_size sampled completions, right-padded to T tokens.

    Attributes:
        prompts: P prompts as token ids; row n belongs to prompt n // group_size.
        tokens_NT: sampled ids; the end-of-sequence token is part of a finished completion.
        lengths_N: number of sampled tokens a row, at least 1.
        finished_N: True where the row ended by itself, False where it hit the token limit.
        sampler_logprobs_NT: log q of each sampled token (temperature and top-p applied), 0 padded;
            None where a remote sampler does not tell it: never another probability instead.
        policy_logprobs_NT: log pi (T = 1) of the same tokens in the sampler's pass, 0 padded.
    """

    prompts: tuple[tuple[int, ...], ...]
    group_size: int
    tokens_NT: IntNT
    lengths_N: NDArray[np.int32]
    finished_N: NDArray[np.bool_]
    sampler_logprobs_NT: FloatNT | None
    policy_logprobs_NT: FloatNT

    @property
    def mask_NT(self) -> NDArray[np.bool_]:
        """True on sampled tokens, False on padding."""
        positions_T = np.arange(self.tokens_NT.shape[1])
        mask: NDArray[np.bool_] = positions_T[None, :] < self.lengths_N[:, None]
        return mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Log-probabilities and entropies of the policy at T = 1, in nats, 0 on padding.

    `logprobs_NT` is log pi of the sampled token; `entropies_NT` is the entropy of the full
    next-token distribution (None where the backend cannot know it: never a surprisal instead).
    """

    logprobs_NT: FloatNT
    entropies_NT: FloatNT | None


class LossConfig(Config):
    """The policy-gradient loss."""

    kind: Literal["importance_sampling", "ppo", "gspo", "cispo"] = "importance_sampling"
    """importance_sampling: -sum(ratio * A); ppo: the clipped surrogate (arXiv:1707.06347); gspo:
    the same with one ratio a completion (arXiv:2507.18071); cispo: -sum(min(ratio, cap) * A *
    logprob), no gradient through the weight (arXiv:2506.13585)."""
    clip_eps: float = 0.2
    """Lower clip range of the ratio (ppo, gspo): it is not rewarded below 1 - clip_eps. GSPO's
    ratio is a mean over tokens and wants a far smaller range, 3e-4 in its paper."""
    clip_eps_high: float | None = None
    """Upper clip range (DAPO clip-higher, arXiv:2503.14476); None: the same as clip_eps. Under
    cispo the cap of the weight is 1 + clip_eps_high, and it must be given."""
    dual_clip: float | None = None
    """Dual-clip constant c > 1: bounds the loss of negative advantages at c*|A|
    (arXiv:1912.09729)."""
    normaliser: Literal["token", "sequence", "constant"] = "token"
    """token: sum / tokens of the trained rows; sequence: mean over rows of the row's token mean;
    constant: sum / (trained rows * max_tokens) (Dr. GRPO, arXiv:2503.20783). Always over the whole
    batch before the first microbatch, so microbatching never changes the result."""
    kl_coef: float = 0.0
    """Coefficient of the KL penalty to the policy training began with: k3 estimate a token, in the
    loss (arXiv:2402.03300 eq. 4). 0: none, and no reference is scored."""
    sampler_correction: Literal["none", "truncate"] = "none"
    """truncate: each token's term is multiplied by min(pi_old / q, sampler_cap), without gradient,
    where q is what the sampler drew from. Needs top_p = 1: a truncated q has other support."""
    sampler_cap: float = 2.0
    """Largest weight of the sampler correction."""


Credit = Callable[
    [NDArray[np.intp], NDArray[np.float64], NDArray[np.float64] | None], NDArray[np.float64]
]
"""(row indices B, log-probs [B, T], entropies [B, T] or None) -> token advantages [B, T]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCredit:
    """A `Credit` whose token advantages do not wait for the update's scores.

    A policy may then know the loss's slope before it has computed a log-probability.

    Attributes:
        advantages_NT: token advantages of the whole batch.
        check: called with the rows and their log-probabilities before the advantages are handed
            out; raises where they must not be trained on.
    """

    advantages_NT: NDArray[np.float64]
    check: Callable[[NDArray[np.intp], NDArray[np.float64]], None] | None = None

    def __call__(
        self,
        rows_B: NDArray[np.intp],
        logprobs_BT: NDArray[np.float64],
        entropies_BT: NDArray[np.float64] | None,
    ) -> NDArray[np.float64]:
        """Return the rows' advantages, as wide as the scores given."""
        if self.check is not None:
            self.check(rows_B, logprobs_BT)
        return self.advantages_NT[rows_B, : logprobs_BT.shape[1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateResult:
    """One optimizer step's record. `scores` covers every row, trained or not.

    Attributes:
        reference_kl: mean k3 estimate over trained tokens; None without a KL penalty.
        sampler_truncated_rate: share of trained tokens whose sampler correction met its cap; None
            without the correction.
        grad_norm: before clipping; None where a server does not tell it.
    """

    scores: Scores
    loss: float
    grad_norm: float | None
    ratio_mean: float
    ratio_max: float
    clip_fraction: float
    trained_tokens: int
    reference_kl: float | None = None
    sampler_truncated_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do; an algorithm that needs more is refused at plan time.

    Attributes:
        reference: whether it is a `ReferencePolicy`.
    """

    token_advantages: bool
    entropies: bool
    exact_resume: bool
    reference: bool = False


class Policy(Protocol):
    """A language-model policy with its optimizer."""

    capabilities: Capabilities
    tokenizer: Tokenizer

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
        """Sample by inverse CDF: token t of row n consumes uniforms_NT[n, t] and nothing else.

        Results therefore depend neither on batch composition nor on finished rows. temperature 0
        is greedy and consumes nothing.
        """
        ...

    def score(self, completions: Completions) -> Scores:
        """Score every row under the current weights at T = 1, without gradient."""
        ...

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
        """Score every row, take one optimizer step on the trained rows, return the scores.

        With `old_logprobs_NT` None the step is on-policy: pi_old is this very forward pass,
        detached. Rows with `trained_N` False are scored without gradient. `credit` is called once
        a microbatch, with the scores of its rows, in any order.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write weights and optimizer state into an existing empty folder."""
        ...

    def load(self, folder: Path) -> None:
        """Restore exactly what `save` wrote."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what the record should say of model, arithmetic and machine; plain JSON."""
        ...

    def weights_sha256(self) -> str | None:
        """Hash of all weights, for the record; None where only a server has them."""
        ...


@runtime_checkable
class Metered(Protocol):
    """A policy that asks others to work, and counts what for."""

    def account(self) -> Mapping[str, int | str | None]:
        """Return what was asked for so far, checkpoints' own share included, and where the last
        saved weights lie."""
        ...


@runtime_checkable
class ReferencePolicy(Policy, Protocol):
    """A policy that still knows the weights its training began with."""

    def score_reference(self, completions: Completions) -> FloatNT:
        """Return log pi_ref (T = 1) of every sampled token, 0 on padding, without gradient.

        pi_ref is the policy before the first update of the run, also after `load`.
        """
        ...

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
        """Update as `Policy.update` does; with `loss.kl_coef` > 0 the reference must be given."""
        ...


@runtime_checkable
class Adjustable(Protocol):
    """A policy whose concurrency may change between two calls, its results staying what they are
    up to float rounding."""

    def set_concurrency(self, setting: str, value: int) -> None:
        """Set `sample_rows` or `microbatch_tokens` (see PolicySettings) from the next call on."""
        ...
