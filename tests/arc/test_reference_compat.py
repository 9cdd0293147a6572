"""The padded computation and the fast path agree where they mean the same, and only there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cupel.arc.losses import IGNORE, sequence_losses, total_loss
from cupel.arc.model import ARCModel
from cupel.arc.model_config import ModelConfig
from cupel.arc.reference_compat import PaddedModel, pad_items, padded_loss
from cupel.arc.slots import collate
from cupel.errors import ConfigError, DataError

CORE = {"hidden_size": 16, "num_heads": 2, "n_context": 3, "H_cycles": 2, "L_cycles": 2}
FLAT = {**CORE, "rope": "1d"}
TABLE = {"kind": "embedding", "num_puzzles": 9, "context_scale": "raw", "context_tokens": 1}


def build(core: dict[str, Any], encoder: dict[str, Any]) -> ARCModel:
    model = ARCModel(
        ModelConfig(core=core, encoder=encoder), generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():  # as after some training: the halt head reads something
        model.core.q_head.weight.normal_(generator=torch.Generator().manual_seed(1))
    return model


def blind(model: ARCModel) -> ARCModel:
    """Let the pair blocks attend evenly, so that positions play no part in the encoder."""
    width = model.config.core.hidden_size
    with torch.no_grad():
        for block in model.encoder.pairs.blocks:
            block.qkv.weight[: 2 * width] = 0
    return model


def fast_step(model: ARCModel, items, carry=None):
    step = model(collate(items, items[0].side), carry)
    losses = sequence_losses(step.logits, step.q_halt, collate(items, items[0].side).label)
    return step, total_loss(losses, {}, q_halt_weight=0.5, encoder_weights={}), losses


def close(a: Tensor, b: Tensor, tolerance: float = 1e-3) -> None:
    """Float32 rounding grows over some forty applications of a stack; another meaning is O(1)."""
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_the_core_agrees_over_steps_with_its_losses_and_gradients(make_item) -> None:
    model = build(FLAT, TABLE)
    padded = PaddedModel(model)
    items = [make_item(n, label=cut(make_item(n).label, n)) for n in range(3)]
    batch = pad_items(items, side=4, max_demos=3)
    carry, data = padded.start(batch)
    fast_carry = None
    for _ in range(3):
        slow = padded(carry, data, batch)
        fast, loss, losses = fast_step(model, items, fast_carry)
        close(slow.logits, fast.logits)
        close(slow.carry.z_L, fast.carry.z_L)
        close(slow.loss.float(), loss)
        assert slow.metrics["lm_loss"] == pytest.approx(losses.lm_B.mean().item(), rel=1e-4)
        assert slow.metrics["accuracy"] == pytest.approx(
            float((losses.correct_B / losses.tokens_B).mean())
        )
        assert slow.metrics["steps"] == float(fast.carry.steps.float().mean())
        carry, data, fast_carry = slow.carry, slow.data, fast.carry
    slow.loss.backward()
    loss.backward()
    close(padded.embed_tokens.grad, model.core.embed_tokens.grad)
    close(padded.layers[0].qkv.grad, model.core.layers[0].qkv.grad)
    close(padded.layers[1].mlp.gate_up.grad, model.core.layers[1].gate_up.grad)
    close(padded.lm_head.grad, model.core.lm_head.grad)
    close(padded.q_weight.grad, model.core.q_head.weight.grad)
    close(padded.encoder.table.grad, model.encoder.table.grad)


def cut(label: np.ndarray, kept: int) -> np.ndarray:
    """Leave the last cells unasked."""
    return np.where(np.arange(len(label)) < 4 + 3 * kept, label, 0).astype(np.uint8)


def test_the_encoder_agrees_where_nothing_is_padding_and_positions_play_no_part(make_item) -> None:
    model = blind(build({**FLAT, "scale_context": True}, {"kind": "standard"}))
    padded = PaddedModel(model)
    items = [make_item(n) for n in range(3)]
    batch = pad_items(items, side=4)
    slow = padded(*padded.start(batch), batch)
    fast, loss, _ = fast_step(model, items)
    close(slow.context, fast.context)
    close(slow.logits, fast.logits)
    slow.loss.backward()
    loss.backward()
    pairs, read = model.encoder.pairs, model.encoder.set_stage.layers[0].read
    both = padded.encoder.tables[0].grad + padded.encoder.tables[1].grad
    close(both / 2**0.5, pairs.tokens.grad)
    close(padded.encoder.blocks[0].mlp.down.grad, pairs.blocks[0].mlp.down.weight.grad)
    close(padded.encoder.pool.grad, model.encoder.pool.out.weight.grad)
    close(padded.encoder.queries.grad, model.encoder.set_stage.queries.grad)
    close(padded.encoder.reads[0].key_value.grad, read.key_value.weight.grad)


@pytest.mark.parametrize("scale", [0.1, 10.0, 1e4])
def test_stablemax_in_float64_over_every_cell_gives_the_losses_of_each_slot(scale: float) -> None:
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 9, 12, generator=draw) * scale
    labels = torch.randint(0, 12, (4, 9), generator=draw)
    labels[:, 6:] = IGNORE
    labels[0] = torch.where(labels[0] == IGNORE, IGNORE, logits[0].argmax(-1))
    q_halt = torch.tensor([3.0, -2.0, 0.5, 0.0])
    losses = sequence_losses(logits, q_halt, labels)
    for slot in range(4):
        loss, metrics = padded_loss(logits[[slot]], q_halt[[slot]], labels[[slot]])
        assert metrics["lm_loss"] == pytest.approx(losses.lm_B[slot].item(), rel=1e-5)
        assert metrics["q_halt_loss"] == pytest.approx(losses.q_halt_B[slot].item(), rel=1e-5)
        assert metrics["exact_accuracy"] == float(losses.exact_B[slot]) == float(slot == 0)
        assert metrics["q_halt_accuracy"] == float(losses.halt_right_B[slot])
        assert loss.item() == pytest.approx(metrics["lm_loss"] + 0.5 * metrics["q_halt_loss"])


def test_empty_demonstration_slots_cost_time_and_change_nothing(make_item) -> None:
    padded = PaddedModel(build(FLAT, {"kind": "standard"}))
    items = [make_item(n) for n in range(3)]
    few, many = (pad_items(items, side=4, max_demos=count) for count in (3, 10))
    close(padded(*padded.start(few), few).context, padded(*padded.start(many), many).context, 1e-6)


def test_padding_attends_here_and_not_on_the_fast_path(make_item) -> None:
    model = blind(build({**FLAT, "scale_context": True}, {"kind": "standard"}))
    padded = PaddedModel(model)
    items = [make_item(n) for n in range(2)]
    small, large = (pad_items(items, side=side) for side in (4, 6))
    slow_small, slow_large = (padded(*padded.start(b), b) for b in (small, large))
    assert (slow_small.context - slow_large.context).abs().max() > 1e-2
    fast_small, fast_large = (model.encode(collate(items, side)).context for side in (4, 6))
    close(fast_small, fast_large)


def test_flat_positions_tell_input_from_output_by_place(make_item) -> None:
    model = build({**FLAT, "scale_context": True}, {"kind": "standard"})
    padded = PaddedModel(model)
    items = [make_item(n) for n in range(2)]
    batch = pad_items(items, side=4)
    slow = padded(*padded.start(batch), batch).context
    assert (slow - model.encode(collate(items, 4)).context).abs().max() > 1e-3


def test_halted_slots_alone_take_new_rows(make_item) -> None:
    padded = PaddedModel(build(FLAT, TABLE))
    first, second = (pad_items([make_item(n), make_item(n + 1)], side=4) for n in (0, 4))
    step = padded(*padded.start(first), first)
    step.carry.halted[1] = True
    after = padded(step.carry, step.data, second)
    assert after.carry.steps.tolist() == [2, 1]
    assert torch.equal(after.data.inputs[0], first.inputs[0])
    assert torch.equal(after.data.inputs[1], second.inputs[1])
    alone = padded(*padded.start(second), second)
    close(after.logits[1], alone.logits[1])


@pytest.mark.parametrize(
    ("width", "heads", "inner", "encoder", "count"),
    [
        (512, 8, 4.0, TABLE, 6_829_058),
        (128, 4, 6.0, TABLE, 527_618),
        (128, 4, 6.0, {"kind": "standard", "num_heads": 4, "expansion": 6.0}, 1_335_554),
    ],
)
def test_sizes_are_those_of_the_public_models(width, heads, inner, encoder, count) -> None:
    core = {"hidden_size": width, "num_heads": heads, "expansion": inner}
    padded = PaddedModel(build(core, encoder))
    found = sum(p.numel() for p in padded.parameters())
    assert found - (9 * width if encoder is TABLE else 0) == count


def test_what_it_cannot_compute_is_refused(make_item) -> None:
    for encoder in (
        {"kind": "set"},
        {"kind": "standard", "norm": "pre"},
        {"kind": "standard", "layer_scale_init": 0.1},
        {"kind": "embedding", "num_puzzles": 2},
    ):
        with pytest.raises(ConfigError, match="reference_compat"):
            PaddedModel(build(CORE, encoder))
    with pytest.raises(DataError, match="puzzle2 has side 4 and 3 demonstrations"):
        pad_items([make_item(2)], side=4, max_demos=2)
    with pytest.raises(DataError, match="room for side 3"):
        pad_items([make_item(2)], side=3)
