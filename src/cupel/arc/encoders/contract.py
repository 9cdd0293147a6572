"""What every encoder is given and what it returns: pairs, shown in rows, one context a slot.

Knows the packed layout, the padding mask, the matched scale of the context and the zero registers:
each stands here once, for all kinds. Refuses to know how a kind computes. No encoder detaches
anything: who carries a state over to the next call detaches it there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupel.arc.attention import rms_norm
from cupel.arc.encoder_config import EncoderConfig
from cupel.arc.encoders.layers import Form, Linear
from cupel.arc.encoders.segments import show
from cupel.arc.tokens import PAD
from cupel.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One call's result for B slots.

    Attributes:
        context: the decoder's context [B, C, D], with gradient.
        carry: the recurrent state [B, 2, C', W] with gradient (the caller detaches it), or None.
        losses: unweighted loss terms by name, one value a slot [B], float32; their weights are in
            `EncoderConfig.loss_weights`.
    """

    context: Tensor
    carry: Tensor | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demos:
    """U demonstration pairs, each L tokens, input then output, and the R rows that show them.

    What depends on a pair alone is computed on U, then handed to its rows by `show`.

    Attributes:
        tokens: [U, L] token ids.
        visible: [U, L], False on padding.
        place: [U or 1, L], where a token stands among the 2·S of its pair.
        real: [U], False for a pair of padding alone: a row that shows it counts as absent.
        pair: [R], the pair a row shows; None: every row is a pair of its own, U = R.
        slot: [R], the slot a row belongs to, in any order.
        n_slots: how many slots, B.
        side: side of the canvas, S = side².
        ragged: pairs may be computed at their own lengths, which asks the device for them.
    """

    tokens: Tensor
    visible: Tensor
    place: Tensor
    real: Tensor
    pair: Tensor | None
    slot: Tensor
    n_slots: int
    side: int
    ragged: bool = False

    def show(self, pairs_U: Tensor) -> Tensor:
        """Hand each row the value of its pair, [U, ...] -> [R, ...]."""
        return show(pairs_U, self.pair)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What only some kinds read: a carry, puzzle ids, and where latent noise comes from."""

    carry: Tensor | None = None
    puzzle_ids: Tensor | None = None
    generator: torch.Generator | None = None
    noise: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a kind computes: context [B, C', W] before projection and scale, carry and losses."""

    context: Tensor
    carry: Tensor | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)


def pack(
    pair_tokens_U2S: Tensor,
    demo_slot_R: Tensor,
    n_slots: int,
    side: int,
    demo_pair_R: Tensor | None = None,
) -> Demos:
    """Check the shapes and find the padding; L = 2·S.

    Raises:
        ConfigError: the canvas is not side x side, or rows, pairs and slots differ in number.
    """
    rows = demo_slot_R.shape[0]
    pairs = rows if demo_pair_R is None else pair_tokens_U2S.shape[0]
    if tuple(pair_tokens_U2S.shape) != (pairs, 2, side * side):
        raise ConfigError(
            f"encoder: pair_tokens {tuple(pair_tokens_U2S.shape)}, demo_slot {rows} rows, side "
            f"{side}; expected pair_tokens [{pairs}, 2, {side * side}]"
        )
    if demo_pair_R is not None and tuple(demo_pair_R.shape) != (rows,):
        raise ConfigError(
            f"encoder: demo_pair {tuple(demo_pair_R.shape)}, demo_slot {rows} rows; every row "
            f"shows one pair: expected demo_pair [{rows}]"
        )
    tokens_UL = pair_tokens_U2S.flatten(1).long()
    visible_UL = tokens_UL != PAD
    place_1L = torch.arange(tokens_UL.shape[1], device=tokens_UL.device)[None]
    return Demos(
        tokens=tokens_UL,
        visible=visible_UL,
        place=place_1L,
        real=visible_UL.any(1),
        pair=None if demo_pair_R is None else demo_pair_R.long(),
        slot=demo_slot_R.long(),
        n_slots=n_slots,
        side=side,
    )


def compact(demos: Demos) -> Demos:
    """Move the visible tokens of each pair to its front, in order, and cut the common padding.

    Padding is never read, so leaving it out changes no value. It makes shapes depend on the data,
    which costs nothing on the CPU, but a synchronisation and the static shapes elsewhere.
    """
    length = max(1, int(demos.visible.sum(1).max())) if len(demos.tokens) else 1
    place_UL = demos.visible.int().argsort(stable=True, dim=1, descending=True)[:, :length]
    return replace(
        demos,
        tokens=demos.tokens.gather(1, place_UL),
        visible=demos.visible.gather(1, place_UL),
        place=place_UL,
        ragged=True,
    )


class ContextScale(nn.Module):
    """RMS norm over the channels, then one learned gain a channel that starts at 1.

        c ← g ⊙ c / √(mean_D c² + 1e-5)

    Token embeddings enter the decoder with RMS 1 (standard deviation 1/√D, times √D). A context of
    another scale drowns them or is drowned by them, so the two start equal.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(hidden_size))

    def forward(self, context_BCD: Tensor) -> Tensor:
        """Return the context at the matched scale."""
        return rms_norm(context_BCD) * self.gain.to(context_BCD.dtype)


class Encoder(nn.Module, ABC):
    """Base of every kind: pack, compute, project, scale, add registers.

    A kind implements `body`; everything about the form of the output happens here.
    """

    def __init__(self, config: EncoderConfig, form: Form, *, hidden_size: int, n_context: int):
        super().__init__()
        self.config = config
        self.form = form
        self.written = config.context_tokens or n_context
        self._registers = n_context - self.written
        if self._registers < 0:
            raise ConfigError(
                f"encoder.context_tokens = {self.written} exceeds the {n_context} context "
                f"positions; use 0 (all of them) to {n_context}"
            )
        project = form.width != hidden_size
        self.project = Linear(form, form.width, hidden_size) if project else nn.Identity()
        matched = config.context_scale == "matched"
        self.scale = ContextScale(hidden_size) if matched else nn.Identity()

    def forward(
        self,
        pair_tokens: Tensor,
        demo_slot: Tensor,
        n_slots: int,
        side: int,
        carry: Tensor | None = None,
        puzzle_ids: Tensor | None = None,
        *,
        demo_pair: Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Encoded:
        """Encode pairs [U, 2, S], shown in R rows to `n_slots` tasks, into contexts [B, C, D].

        Args:
            pair_tokens: token ids [U, 2, S], input and output of each real pair.
            demo_slot: the slot of each row [R]; rows of a slot need not be neighbours.
            demo_pair: the pair that each row shows [R]; None: each row its own, U = R.
            carry: the previous call's state, detached by the caller (recurrent); None: a start.
            puzzle_ids: rows of the table [B] (embedding).
            generator: draws the latent noise in training (variational kinds).
            noise: standard normal noise [B, latent], or [R, latent] for lpn, in its stead.

        Raises:
            ConfigError: shapes disagree, or the kind lacks what it needs.
            DataError: a puzzle id outside the table.
        """
        demos = pack(pair_tokens, demo_slot, n_slots, side, demo_pair)
        if pair_tokens.device.type == "cpu" and not torch.compiler.is_compiling():
            demos = compact(demos)
        extras = Extras(carry=carry, puzzle_ids=puzzle_ids, generator=generator, noise=noise)
        body = self.body(demos, extras)
        context: Tensor = self.scale(self.project(body.context))
        context = F.pad(context, (0, 0, 0, self._registers))
        return Encoded(context=context, carry=body.carry, losses=body.losses)

    @abstractmethod
    def body(self, demos: Demos, extras: Extras) -> Body:
        """Compute the context of every slot, [B, written, W]."""

    def initial_carry(self, n_slots: int) -> Tensor | None:
        """Return the state of fresh slots, or None for a kind without one."""
        return None
