"""Encoder and core together: gradients everywhere, no reset but where halted, answering."""

from __future__ import annotations

import pytest
import torch

from cupel.arc.answering import answer, unroll
from cupel.arc.encoder_config import EncoderConfig
from cupel.arc.losses import sequence_losses, total_loss
from cupel.arc.model import ARCModel
from cupel.arc.model_config import CoreConfig, ModelConfig
from cupel.arc.slots import collate
from cupel.errors import ConfigError

KINDS = ["standard", "variational", "cross_attention", "recurrent"]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def small_model(kind="standard", *, seed=0, halt_bias=-5.0, **core):
    settings = {"hidden_size": 16, "num_heads": 2, "n_context": 3, "H_cycles": 2, "L_cycles": 1}
    config = ModelConfig(
        core=CoreConfig(**{**settings, **core}),
        encoder=EncoderConfig(kind=kind, num_layers=1)
        if kind != "recurrent"
        else EncoderConfig(kind=kind, num_layers=1, h_cycles=1, l_cycles=1, pair_tokens=2),
    )
    model = ARCModel(config, generator=generator(seed))
    with torch.no_grad():
        model.core.q_head.weight.normal_(generator=generator(seed + 1))
        model.core.q_head.bias.fill_(halt_bias)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_gives_every_parameter_a_gradient(kind, make_item):
    model = small_model(kind)
    batch = collate([make_item(n) for n in range(3)], 4)
    output = model(batch, generator=generator(3))
    losses = sequence_losses(output.logits, output.q_halt, batch.label)
    weights = model.config.encoder.loss_weights()
    total_loss(losses, output.encoder_losses, q_halt_weight=0.5, encoder_weights=weights).backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    owned = len(model.encoder_parameters()) + len(model.inner_parameters())
    assert owned == len(list(model.parameters()))


def test_every_slot_of_every_age_gives_the_encoder_a_gradient(make_item):
    """No context is cached over steps: slots that go on teach the encoder as fresh ones do."""
    model = small_model()
    batch = collate([make_item(n) for n in range(3)], 4)
    carry = model(batch).carry
    for _ in range(2):
        carry = model(batch, carry).carry
    output = model(batch, carry)
    assert carry.steps.tolist() == [3, 3, 3]
    grad = torch.autograd.grad(output.logits.sum(), output.context)[0]
    assert (grad.abs().amax(dim=(1, 2)) > 0).all()


def test_a_recurrent_encoders_state_is_reset_where_slots_halted(make_item):
    model = small_model("recurrent")
    batch = collate([make_item(n) for n in range(2)], 4)
    with torch.no_grad():
        first = model(batch)
        first.carry.halted[0] = True
        second = model(batch, first.carry)
    assert first.carry.encoder is not None
    assert not first.carry.encoder.requires_grad
    assert torch.equal(second.context[0], first.context[0])
    assert not torch.equal(second.context[1], first.context[1])


def test_bfloat16_reaches_the_whole_model_and_weights_stay_float32(make_item):
    model = small_model(forward_dtype="bfloat16")
    output = model(collate([make_item(1)], 4))
    assert output.carry.z_H.dtype == output.logits.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_answering_takes_every_step_and_equals_a_loop(kind, make_item):
    model = small_model(kind, halt_bias=50.0)  # would halt at once
    batch = collate([make_item(n) for n in range(3)], 4)
    answers = answer(model, batch, halt_max_steps=4)
    model.eval()
    carry = None
    with torch.no_grad():
        for _ in range(4):
            output = model(batch, carry)  # encodes at every step
            carry = output.carry
    assert answers.steps.tolist() == [4, 4, 4]
    torch.testing.assert_close(answers.logits, output.logits)
    torch.testing.assert_close(answers.q_halt, output.q_halt)
    assert torch.equal(answers.tokens, output.logits.argmax(-1))


@pytest.mark.parametrize("kind", KINDS)
def test_early_exit_gives_each_query_its_own_step(kind, make_item):
    """Equal to every query alone, stopped by hand at its first positive halt value."""
    model = small_model(kind, halt_bias=0.0, seed=2)
    items = [make_item(n) for n in range(8)]
    with torch.no_grad():
        model.encoder.eval()
        ordered = model(collate(items, 4)).q_halt.sort().values
        model.core.q_head.bias[0] = -(ordered[3] + ordered[4]) / 2  # half of them stop at once
    answers = answer(model, collate(items, 4), halt_max_steps=5, early_exit=True)
    for slot, item in enumerate(items):
        for output in unroll(model, collate([item], 4), 5):
            if output.q_halt.item() > 0:
                break
        assert answers.steps[slot].item() == output.carry.steps.item()
        torch.testing.assert_close(answers.logits[slot], output.logits[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(answers.q_halt[slot], output.q_halt[0], atol=1e-4, rtol=1e-4)
    assert len(set(answers.steps.tolist())) > 1


def test_unroll_yields_every_age_and_takes_a_given_context(make_item):
    model = small_model()
    batch = collate([make_item(n) for n in range(3)], 4)
    outputs = list(unroll(model, batch, 3))
    assert [o.carry.steps.tolist() for o in outputs] == [[1] * 3, [2] * 3, [3] * 3]
    assert not outputs[0].logits.requires_grad
    swapped = list(unroll(model, batch, 3, context=outputs[0].context.roll(1, dims=0)))
    again = list(unroll(model, batch, 3, context=outputs[0].context))
    assert torch.equal(again[-1].logits, outputs[-1].logits)
    assert not torch.equal(swapped[-1].logits, outputs[-1].logits)
    with pytest.raises(ConfigError, match="at least 1"):
        next(unroll(model, batch, 0))
    with pytest.raises(ConfigError, match="at least 1"):
        answer(model, batch, halt_max_steps=0, early_exit=True)


def test_answering_uses_the_mean_latent_and_leaves_the_mode_alone(make_item):
    model = small_model("variational")
    batch = collate([make_item(1)], 4)
    a, b = (answer(model, batch, halt_max_steps=1).logits for _ in range(2))
    assert torch.equal(a, b)
    assert model.encoder.training


def test_the_same_seed_builds_the_same_model_and_touches_no_global_generator():
    before = torch.get_rng_state()
    a, b, c = small_model(seed=1), small_model(seed=1), small_model(seed=2)
    assert torch.equal(before, torch.get_rng_state())
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(x, y)
    assert any(not torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters(), strict=True))
