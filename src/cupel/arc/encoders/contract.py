"""What every encoder is given and what it returns: pairs in packed rows, one context a slot.

Knows the packed layout, the padding mask, the matched scale of the context and the zero registers:
each stands here once, for all kinds. Refuses to know how a kind computes. No encoder detaches
anything: who carries a state over to the next call detaches it there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupel.arc.attention import rms_norm
from cupel.arc.encoder_config import EncoderConfig
from cupel.arc.encoders.layers import Form, Linear
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
    """Packed demonstration pairs: R rows, each the L tokens of one pair, input then output.

    Attributes:
        tokens: [R, L] token ids.
        visible: [R, L], False on padding.
        place: [R or 1, L], where a token stands among the 2·S of its pair.
        real: [R], False for a row of padding alone: such a row counts as absent.
        slot: [R], the slot a row belongs to, in any order.
        n_slots: how many slots, B.
        side: side of the canvas, S = side².
        ragged: rows may be computed at their own lengths, which asks the device for them.
    """

    tokens: Tensor
    visible: Tensor
    place: Tensor
    real: Tensor
    slot: Tensor
    n_slots: int
    side: int
    ragged: bool = False


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


def pack(demo_tokens_R2S: Tensor, demo_slot_R: Tensor, n_slots: int, side: int) -> Demos:
    """Check the shapes and find the padding; L = 2·S.

    Raises:
        ConfigError: the canvas is not side x side, or rows and slots differ in number.
    """
    rows = demo_slot_R.shape[0]
    if tuple(demo_tokens_R2S.shape) != (rows, 2, side * side):
        raise ConfigError(
            f"encoder: demo_tokens {tuple(demo_tokens_R2S.shape)}, demo_slot {rows} rows, side "
            f"{side}; expected demo_tokens [{rows}, 2, {side * side}]"
        )
    tokens_RL = demo_tokens_R2S.flatten(1).long()
    visible_RL = tokens_RL != PAD
    place_1L = torch.arange(tokens_RL.shape[1], device=tokens_RL.device)[None]
    return Demos(
        tokens=tokens_RL,
        visible=visible_RL,
        place=place_1L,
        real=visible_RL.any(1),
        slot=demo_slot_R.long(),
        n_slots=n_slots,
        side=side,
    )


def compact(demos: Demos) -> Demos:
    """Move the visible tokens of each row to its front, in order, and cut the common padding.

    Padding is never read, so leaving it out changes no value. It makes shapes depend on the data,
    which costs nothing on the CPU, but a synchronisation and the static shapes elsewhere.
    """
    length = max(1, int(demos.visible.sum(1).max())) if len(demos.slot) else 1
    place_RL = demos.visible.int().argsort(stable=True, dim=1, descending=True)[:, :length]
    return replace(
        demos,
        tokens=demos.tokens.gather(1, place_RL),
        visible=demos.visible.gather(1, place_RL),
        place=place_RL,
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


class Encoder(nn.Module):
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
        demo_tokens: Tensor,
        demo_slot: Tensor,
        n_slots: int,
        side: int,
        carry: Tensor | None = None,
        puzzle_ids: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Encoded:
        """Encode packed pairs [R, 2, S] of `n_slots` tasks into contexts [B, C, D].

        Args:
            demo_tokens: token ids [R, 2, S], input and output of each real pair.
            demo_slot: the slot of each row [R]; rows of a slot need not be neighbours.
            carry: the previous call's state, detached by the caller (recurrent); None: a start.
            puzzle_ids: rows of the table [B] (embedding).
            generator: draws the latent noise in training (variational kinds).
            noise: standard normal noise [B, latent], or [R, latent] for lpn, in its stead.

        Raises:
            ConfigError: shapes disagree, or the kind lacks what it needs.
            DataError: a puzzle id outside the table.
        """
        demos = pack(demo_tokens, demo_slot, n_slots, side)
        if demo_tokens.device.type == "cpu" and not torch.compiler.is_compiling():
            demos = compact(demos)
        extras = Extras(carry=carry, puzzle_ids=puzzle_ids, generator=generator, noise=noise)
        body = self.body(demos, extras)
        context: Tensor = self.scale(self.project(body.context))
        context = F.pad(context, (0, 0, 0, self._registers))
        return Encoded(context=context, carry=body.carry, losses=body.losses)

    def body(self, demos: Demos, extras: Extras) -> Body:
        """Compute the context of every slot, [B, written, W]."""
        raise NotImplementedError

    def initial_carry(self, n_slots: int) -> Tensor | None:
        """Return the state of fresh slots, or None for a kind without one."""
        return None
