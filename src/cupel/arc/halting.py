"""Adaptive computation: what a slot carries from step to step, and when it halts.

Knows the carry, its reset, the halting rule and its exploration. Refuses to know items, losses
and models. Random numbers come in as uniforms that depend on the seed, the step and the slot
alone, so there is no generator to save.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cupel.arc.model_config import HaltingConfig
from cupel.lab.randomness import Randomness


@dataclass(frozen=True, slots=True, kw_only=True)
class Carry:
    """The state of B slots between two steps; nothing in it has a gradient.

    Attributes:
        z_H: answer state [B, C + S, D].
        z_L: latent state [B, C + S, D].
        steps: steps each slot's item has had [B], int32.
        halted: the slot is done with its item [B], bool; its next step starts afresh.
        encoder: state of a recurrent encoder [B, ...], or None.
    """

    z_H: Tensor
    z_L: Tensor
    steps: Tensor
    halted: Tensor
    encoder: Tensor | None = None

    def select(self, rows: Tensor) -> Carry:
        """Return the carry of some slots."""
        return Carry(
            z_H=self.z_H[rows],
            z_L=self.z_L[rows],
            steps=self.steps[rows],
            halted=self.halted[rows],
            encoder=None if self.encoder is None else self.encoder[rows],
        )


def fresh_where(halted_B: Tensor, fresh: Tensor, kept: Tensor) -> Tensor:
    """Return `fresh` in halted slots and `kept` in the others."""
    return torch.where(halted_B.view(-1, *[1] * (kept.ndim - 1)), fresh, kept)


def halting_draws(
    randomness: Randomness, *, step: int, side: int, slots: int, first_slot: int = 0
) -> Tensor:
    """Return the uniforms [B, 2] of one step's exploration, a pure function of its arguments.

    Args:
        first_slot: index of slot 0 among all ranks' slots.
    """
    keys = [(step, side, first_slot + slot) for slot in range(slots)]
    return torch.from_numpy(randomness.uniforms("halt_exploration", keys, 2)).float()


def out_of_phase(carry: Carry, *, most: int, first_slot: int, slots: int) -> Carry:
    """Count slot i's first item as floor(i * most / slots) steps older, so it leaves earlier.

    Slots that start together and never halt by themselves change their items all at once, and
    `most` updates in a row then see the same few puzzles. Out of phase, every update sees new ones.

    Args:
        carry: after the very first step.
        first_slot: index of slot 0 among all ranks' slots.
        slots: slots of all ranks.
    """
    index_B = first_slot + torch.arange(len(carry.steps), device=carry.steps.device)
    return replace(carry, steps=carry.steps + (index_B * most // slots).int())


def halt(carry: Carry, q_halt_B: Tensor, draws_B2: Tensor, config: HaltingConfig) -> Carry:
    """Decide which slots are done after a step (training).

        halted = steps >= M  or  (q_halt > 0 and steps >= m)

    m = 1, but with probability p, drawn at every step, m ~ U{2, ..., M}: a slot of age t that would
    halt is held back with probability p · (M - t) / (M - 1), and so sees what more steps do.

    Args:
        carry: after the step, `steps` counting it.
        draws_B2: uniforms in [0, 1); the first decides whether to explore, the second m.

    Source: Wang et al., "Hierarchical Reasoning Model", arXiv:2506.21734, section 2 (there m is
    drawn once an item; drawn anew at every step as in its code and in arXiv:2510.04871).
    """
    most = config.halt_max_steps
    explore = draws_B2[:, 0] < config.halt_exploration_prob
    drawn = (2 + (draws_B2[:, 1] * (most - 1)).floor().int()).clamp(max=most)
    least = torch.where(explore, drawn, torch.ones_like(drawn))
    wants = (q_halt_B.detach() > 0) & (carry.steps >= least)
    return replace(carry, halted=(carry.steps >= most) | wants)
